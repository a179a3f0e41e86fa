"""How transformers are called at a resolution and length: one ``Call`` per class, known by the class's name.

Tensors are made by whoever asks: without storage for counting bytes, random for measuring time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Config = Mapping[str, Any]
Make = Callable[..., "Tensor"]  # sizes of a tensor to make


@dataclass(frozen=True)
class Size:
    """Of the picture in pixels, and its number of frames; ``motion``: a later clip, with the frames before it."""

    width: int
    height: int
    frames: int = 1
    motion: bool = False


@dataclass(frozen=True)
class Call:
    """One class's way of being called.

    Attributes:
        arguments: (config, size, make) to the forward's keyword arguments for one branch, but for the timestep.
        timestep: its argument; ``scale``: what a timestep of 1000 is called with.
        pixels: width and height are multiples of it.
        every, first: a clip has ``first + n * every`` frames; ``every`` 0: a picture.
        motion: whether later clips carry frames of the one before.
        size: by default.
        branches: guidance branches of a step.
    """

    arguments: Callable[[Config, Size, Make], dict[str, Any]]
    size: Size
    timestep: str = "timestep"
    scale: float = 1000.0
    pixels: int = 16
    every: int = 0
    first: int = 1
    motion: bool = False
    branches: int = 2

    def check(self, name: str, size: Size) -> None:
        """Raise InputError unless ``name`` can be called at this size."""
        for what, value in (("width", size.width), ("height", size.height)):
            if value < self.pixels or value % self.pixels or value > 16384:
                near = min(16384, max(self.pixels, round(value / self.pixels) * self.pixels))
                raise InputError(
                    f"A {what} of {value} can't be used: {name} takes multiples of {self.pixels}, up to 16384. "
                    f"The nearest is {near}."
                )
        if not self.every and size.frames != 1:
            raise InputError(f"{name} makes pictures, but {size.frames} frames were asked for. Leave out --frames.")
        if self.every and not (self.first <= size.frames <= 100_000 and (size.frames - self.first) % self.every == 0):
            near = max(0, round((size.frames - self.first) / self.every)) * self.every + self.first
            raise InputError(
                f"{size.frames} frames can't be made: {name} makes {self.first} + n * {self.every}, up to 100000. "
                f"The nearest is {min(near, 99_001)}."
            )
        if size.motion and not self.motion:
            raise InputError(f"{name} has no tokens of frames before the clip. Leave out --motion.")


def _latent_frames(size: Size, every: int) -> int:
    return (size.frames - 1) // every + 1


def _wan(config: Config, size: Size, make: Make) -> dict[str, Any]:
    frames, image = _latent_frames(size, 4), config.get("image_dim")
    channels = config["in_channels"]
    return {
        "hidden_states": make(1, channels, frames, size.height // 8, size.width // 8),
        "encoder_hidden_states": make(1, 512, config["text_dim"]),
        "encoder_hidden_states_image": make(1, 257, image) if image else None,
        "return_dict": False,
    }


def _hunyuan_video(config: Config, size: Size, make: Make) -> dict[str, Any]:
    frames = _latent_frames(size, 4)
    return {
        "hidden_states": make(1, config["in_channels"], frames, size.height // 8, size.width // 8),
        "encoder_hidden_states": make(1, 256, config["text_embed_dim"]),
        "encoder_attention_mask": make(1, 256).fill_(1).bool(),
        "pooled_projections": make(1, config["pooled_projection_dim"]),
        "guidance": make(1).fill_(6000.0) if config["guidance_embeds"] else None,
        "return_dict": False,
    }


def _ltx(config: Config, size: Size, make: Make) -> dict[str, Any]:
    t, h, w = _latent_frames(size, 8), size.height // 32, size.width // 32
    return {
        "hidden_states": make(1, t * h * w, config["in_channels"]),
        "encoder_hidden_states": make(1, 128, config["caption_channels"]),
        "encoder_attention_mask": make(1, 128).fill_(1).bool(),
        "num_frames": t, "height": h, "width": w,
        "return_dict": False,
    }  # fmt: skip


def _flux(config: Config, size: Size, make: Make) -> dict[str, Any]:
    import torch

    h, w = size.height // 16, size.width // 16
    like = make(1)
    rows, columns = (torch.arange(n, device=like.device, dtype=like.dtype) for n in (h, w))
    return {
        "hidden_states": make(1, h * w, config["in_channels"]),
        "encoder_hidden_states": make(1, 512, config["joint_attention_dim"]),
        "pooled_projections": make(1, config["pooled_projection_dim"]),
        "img_ids": torch.cartesian_prod(torch.zeros_like(rows[:1]), rows, columns),
        "txt_ids": make(512, 3).zero_(),
        "guidance": make(1).fill_(3.5) if config["guidance_embeds"] else None,
        "return_dict": False,
    }


def _qwen_image(config: Config, size: Size, make: Make) -> dict[str, Any]:
    h, w = size.height // 16, size.width // 16
    return {
        "hidden_states": make(1, h * w, config["in_channels"]),
        "encoder_hidden_states": make(1, 512, config["joint_attention_dim"]),
        "encoder_hidden_states_mask": None,
        "img_shapes": [[(1, h, w)]],
        "return_dict": False,
    }


def _wan_s2v(config: Config, size: Size, make: Make) -> dict[str, Any]:
    t, h, w = size.frames // 4, size.height // 8, size.width // 8
    return {
        "x": [make(16, t, h, w)],
        "context": [make(512, config.get("text_dim", 4096))],
        "seq_len": None,
        "ref_latents": [make(16, 1, h, w)],
        "motion_latents": [make(16, 19, h, w)] if size.motion else None,
        "audio_input": make(1, t, 5, config.get("audio_dim", 1024)),
    }


def _hunyuan_avatar(config: Config, size: Size, make: Make) -> dict[str, Any]:
    t, h, w = _latent_frames(size, 4), size.height // 8, size.width // 8
    return {
        "x": make(1, 16, t, h, w),
        "ref_latents": make(1, 16, t, h, w),
        "text_states": make(1, 256 + 575, config.get("text_dim", 4096)),  # the image counts for 576 of the tokens
        "text_states_2": make(1, 768),
        "face_mask": make(1, 1, t, h, w),
        "audio_prompts": make(1, t, 16, config.get("audio_dim", 384)),
    }


def _portrait(config: Config, size: Size, make: Make) -> dict[str, Any]:
    picture = (size.height, size.width)
    return {
        "hidden_states": make(1, 3, size.frames, *picture),
        "audio": make(1, size.frames, config["audio_tokens"], config["audio_dim"] + 1),
        "reference": make(1, 3, *picture),
        "motion": make(1, 3 * config["motion_frames"], *picture) if size.motion else None,
    }


CALLS: dict[str, Call] = {
    "WanTransformer3DModel": Call(_wan, Size(1280, 720, 81), every=4),
    "HunyuanVideoTransformer3DModel": Call(_hunyuan_video, Size(1280, 720, 129), every=4, branches=1),
    "LTXVideoTransformer3DModel": Call(_ltx, Size(704, 512, 161), pixels=32, every=8),
    "FluxTransformer2DModel": Call(_flux, Size(1024, 1024), scale=1.0, branches=1),
    "QwenImageTransformer2DModel": Call(_qwen_image, Size(1328, 1328), scale=1.0),
    "WanModel_S2V": Call(_wan_s2v, Size(1024, 704, 80), timestep="t", every=4, first=4, motion=True),
    "HYVideoDiffusionTransformer": Call(_hunyuan_avatar, Size(704, 704, 129), timestep="t", every=4),
    "PortraitTransformer": Call(_portrait, Size(128, 128, 12), every=1, motion=True),
}
