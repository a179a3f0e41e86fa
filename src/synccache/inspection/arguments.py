"""Arguments of transformers' forwards at a resolution and length, without the timestep; for ``calls.py``.

Tensors are made by ``make(*sizes)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .size import Size

if TYPE_CHECKING:
    from torch import Tensor

Config = Mapping[str, Any]
Make = Callable[..., "Tensor"]  # sizes of a tensor to make


def latent_frames(size: Size, every: int) -> int:
    return (size.frames - 1) // every + 1


def all_of(make: Make, *sizes: int) -> Tensor:
    """A mask that leaves nothing out."""
    return make(*sizes).fill_(1).bool()


def places(make: Make, h: int, w: int, columns: int, number: int = 0) -> Tensor:
    """(number, row, column, 0, ...) of each token of a picture."""
    import torch

    like = make(1)
    rows, across = (torch.arange(n, device=like.device, dtype=like.dtype) for n in (h, w))
    rest = [torch.zeros_like(rows[:1])] * (columns - 3)
    return torch.cartesian_prod(torch.full_like(rows[:1], number), rows, across, *rest)


WIDE = 48  # channels of the latents of Wan2.2's larger VAE, which has 16 pixels to a latent one


def wan(config: Config, size: Size, make: Make) -> dict[str, Any]:
    frames, image = latent_frames(size, 4), config.get("image_dim")
    pixels = 16 if config["out_channels"] == WIDE else 8
    return {
        "hidden_states": make(1, config["in_channels"], frames, size.height // pixels, size.width // pixels),
        "encoder_hidden_states": make(1, 512, config["text_dim"]),
        "encoder_hidden_states_image": make(1, 257, image) if image else None,
        "return_dict": False,
    }


def hunyuan_video(config: Config, size: Size, make: Make) -> dict[str, Any]:
    frames = latent_frames(size, 4)
    return {
        "hidden_states": make(1, config["in_channels"], frames, size.height // 8, size.width // 8),
        "encoder_hidden_states": make(1, 256, config["text_embed_dim"]),
        "encoder_attention_mask": all_of(make, 1, 256),
        "pooled_projections": make(1, config["pooled_projection_dim"]),
        "guidance": make(1).fill_(6000.0) if config["guidance_embeds"] else None,
        "return_dict": False,
    }


def ltx(config: Config, size: Size, make: Make) -> dict[str, Any]:
    t, h, w = latent_frames(size, 8), size.height // 32, size.width // 32
    return {
        "hidden_states": make(1, t * h * w, config["in_channels"]),
        "encoder_hidden_states": make(1, 128, config["caption_channels"]),
        "encoder_attention_mask": all_of(make, 1, 128),
        "num_frames": t, "height": h, "width": w,
        "return_dict": False,
    }  # fmt: skip


def flux(config: Config, size: Size, make: Make) -> dict[str, Any]:
    h, w = size.height // 16, size.width // 16
    return {
        "hidden_states": make(1, h * w, config["in_channels"]),
        "encoder_hidden_states": make(1, 512, config["joint_attention_dim"]),
        "pooled_projections": make(1, config["pooled_projection_dim"]),
        "img_ids": places(make, h, w, 3),
        "txt_ids": make(512, 3).zero_(),
        "guidance": make(1).fill_(3.5) if config["guidance_embeds"] else None,
        "return_dict": False,
    }


def qwen_image(config: Config, size: Size, make: Make) -> dict[str, Any]:
    h, w = size.height // 16, size.width // 16
    return {
        "hidden_states": make(1, h * w, config["in_channels"]),
        "encoder_hidden_states": make(1, 512, config["joint_attention_dim"]),
        "encoder_hidden_states_mask": None,
        "img_shapes": [[(1, h, w)]],
        "return_dict": False,
    }


def wan_s2v(config: Config, size: Size, make: Make) -> dict[str, Any]:
    t, h, w = size.frames // 4, size.height // 8, size.width // 8
    return {
        "x": [make(16, t, h, w)],
        "context": [make(512, config.get("text_dim", 4096))],
        "seq_len": None,
        "ref_latents": [make(16, 1, h, w)],
        "motion_latents": [make(16, 19, h, w)] if size.motion else None,
        "audio_input": make(1, t, 5, config.get("audio_dim", 1024)),
    }


def hunyuan_avatar(config: Config, size: Size, make: Make) -> dict[str, Any]:
    t, h, w = latent_frames(size, 4), size.height // 8, size.width // 8
    return {
        "x": make(1, 16, t, h, w),
        "ref_latents": make(1, 16, t, h, w),
        "text_states": make(1, 256 + 575, config.get("text_dim", 4096)),  # the image counts for 576 of the tokens
        "text_states_2": make(1, 768),
        "face_mask": make(1, 1, t, h, w),
        "audio_prompts": make(1, t, 16, config.get("audio_dim", 384)),
    }


def portrait(config: Config, size: Size, make: Make) -> dict[str, Any]:
    picture = (size.height, size.width)
    return {
        "hidden_states": make(1, 3, size.frames, *picture),
        "audio": make(1, size.frames, config["audio_tokens"], config["audio_dim"] + 1),
        "reference": make(1, 3, *picture),
        "motion": make(1, 3 * config["motion_frames"], *picture) if size.motion else None,
    }


def wan_vace(config: Config, size: Size, make: Make) -> dict[str, Any]:
    known = wan(config, size, make)
    return {**known, "control_hidden_states": make(1, config["vace_in_channels"], *known["hidden_states"].shape[2:])}


def wan_animate(config: Config, size: Size, make: Make) -> dict[str, Any]:
    """The reference picture is the first latent frame; pose and face are told for the others."""
    frames, h, w = latent_frames(size, 4), size.height // 8, size.width // 8
    face = config["motion_encoder_size"]
    return {
        **wan(config, size, make),
        "hidden_states": make(1, config["in_channels"], frames + 1, h, w),
        "pose_hidden_states": make(1, config["latent_channels"], frames, h, w),
        "face_pixel_values": make(1, 3, size.frames, face, face),
    }


def hunyuan_video_15(config: Config, size: Size, make: Make) -> dict[str, Any]:
    frames = latent_frames(size, 4)
    return {
        "hidden_states": make(1, config["in_channels"], frames, size.height // 16, size.width // 16),
        "encoder_hidden_states": make(1, 1000, config["text_embed_dim"]),
        "encoder_attention_mask": all_of(make, 1, 1000),
        "encoder_hidden_states_2": make(1, 256, config["text_embed_2_dim"]),
        "encoder_attention_mask_2": all_of(make, 1, 256),
        "image_embeds": make(1, 729, config["image_embed_dim"]).zero_(),
        "return_dict": False,
    }


def ltx_2(config: Config, size: Size, make: Make) -> dict[str, Any]:
    """At 24 pictures a second, and 25 latent frames of sound."""
    sounds = round(size.frames / 24 * 25)
    return {
        **ltx(config, size, make),
        "encoder_hidden_states": make(1, 1024, config["caption_channels"]),
        "encoder_attention_mask": all_of(make, 1, 1024),
        "audio_hidden_states": make(1, sounds, config["audio_in_channels"]),
        "audio_encoder_hidden_states": make(1, 1024, config["caption_channels"]),
        "audio_num_frames": sounds,
    }


def cogvideox(config: Config, size: Size, make: Make) -> dict[str, Any]:
    every = config.get("patch_size_t") or 1
    frames = -(-latent_frames(size, 4) // every) * every
    return {
        "hidden_states": make(1, frames, config["in_channels"], size.height // 8, size.width // 8),
        "encoder_hidden_states": make(1, config["max_text_seq_length"], config["text_embed_dim"]),
        "return_dict": False,
    }


def mochi(config: Config, size: Size, make: Make) -> dict[str, Any]:
    frames = latent_frames(size, 6)
    return {
        "hidden_states": make(1, config["in_channels"], frames, size.height // 8, size.width // 8),
        "encoder_hidden_states": make(1, 256, config["text_embed_dim"]),
        "encoder_attention_mask": all_of(make, 1, 256),
        "return_dict": False,
    }


def cosmos(config: Config, size: Size, make: Make) -> dict[str, Any]:
    frames = latent_frames(size, 8)
    return {
        "hidden_states": make(1, config["in_channels"], frames, size.height // 8, size.width // 8),
        "encoder_hidden_states": make(1, 512, config["text_embed_dim"]),
        "fps": 30,
        "return_dict": False,
    }


def flux_2(config: Config, size: Size, make: Make) -> dict[str, Any]:
    h, w = size.height // 16, size.width // 16
    return {
        "hidden_states": make(1, h * w, config["in_channels"]),
        "encoder_hidden_states": make(1, 512, config["joint_attention_dim"]),
        "img_ids": places(make, h, w, 4)[None],
        "txt_ids": make(1, 512, 4).zero_(),
        "guidance": make(1).fill_(4.0) if config["guidance_embeds"] else None,
        "return_dict": False,
    }


def qwen_image_edit(config: Config, size: Size, make: Make) -> dict[str, Any]:
    """With one reference picture of the same size."""
    h, w = size.height // 16, size.width // 16
    return {
        **qwen_image(config, size, make),
        "hidden_states": make(1, 2 * h * w, config["in_channels"]),
        "img_shapes": [[(1, h, w), (1, h, w)]],
    }


def sd3(config: Config, size: Size, make: Make) -> dict[str, Any]:
    return {
        "hidden_states": make(1, config["in_channels"], size.height // 8, size.width // 8),
        "encoder_hidden_states": make(1, 333, config["joint_attention_dim"]),
        "pooled_projections": make(1, config["pooled_projection_dim"]),
        "return_dict": False,
    }


def z_image(config: Config, size: Size, make: Make) -> dict[str, Any]:
    return {
        "x": [make(config["in_channels"], 1, size.height // 8, size.width // 8)],
        "cap_feats": [make(512, config["cap_feat_dim"])],
        "return_dict": False,
    }
