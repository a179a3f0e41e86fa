"""How transformers are called: one ``Call`` per class, known by the class's name; some models differ from their class.

Tensors are made by whoever asks: without storage for counting bytes, random for measuring time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InputError
from . import arguments as of
from .size import Size


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
        dtype: of the residual stream in the code that the class is run with, and so of what is stored.
    """

    arguments: Callable[[of.Config, Size, of.Make], dict[str, Any]]
    size: Size
    timestep: str = "timestep"
    scale: float = 1000.0
    pixels: int = 16
    every: int = 0
    first: int = 1
    motion: bool = False
    branches: int = 2
    dtype: str = "bfloat16"

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


WAN = Call(of.wan, Size(1280, 720, 81), every=4)
CALLS: dict[str, Call] = {
    "WanTransformer3DModel": WAN,
    "WanVACETransformer3DModel": replace(WAN, arguments=of.wan_vace),
    "WanAnimateTransformer3DModel": Call(of.wan_animate, Size(1280, 720, 77), every=4, branches=1),
    "SkyReelsV2Transformer3DModel": Call(of.wan, Size(960, 544, 97), every=4),
    "HunyuanVideoTransformer3DModel": Call(of.hunyuan_video, Size(1280, 720, 129), every=4, branches=1),
    "HunyuanVideo15Transformer3DModel": Call(of.hunyuan_video_15, Size(848, 480, 121), every=4),
    "LTXVideoTransformer3DModel": Call(of.ltx, Size(704, 512, 161), pixels=32, every=8),
    "LTX2VideoTransformer3DModel": Call(of.ltx_2, Size(768, 512, 121), pixels=32, every=8),
    "CogVideoXTransformer3DModel": Call(of.cogvideox, Size(720, 480, 49), every=4),
    "MochiTransformer3DModel": Call(of.mochi, Size(848, 480, 85), every=6),
    "CosmosTransformer3DModel": Call(of.cosmos, Size(1280, 704, 121), every=8),
    "FluxTransformer2DModel": Call(of.flux, Size(1024, 1024), scale=1.0, branches=1),
    "Flux2Transformer2DModel": Call(of.flux_2, Size(1024, 1024), scale=1.0, branches=1),
    "QwenImageTransformer2DModel": Call(of.qwen_image, Size(1328, 1328), scale=1.0),
    "SD3Transformer2DModel": Call(of.sd3, Size(1024, 1024)),
    "ZImageTransformer2DModel": Call(of.z_image, Size(1024, 1024), timestep="t", scale=1.0),
    # The official code of Wan adds to the residual stream in float32, under autocast.
    "WanModel_S2V": Call(of.wan_s2v, Size(1024, 704, 80), "t", every=4, first=4, motion=True, dtype="float32"),
    "HYVideoDiffusionTransformer": Call(of.hunyuan_avatar, Size(704, 704, 129), "t", every=4),
    "PortraitTransformer": Call(of.portrait, Size(128, 128, 12), every=1, motion=True, dtype="float32"),
}


def call_of(cls: str, config: Mapping[str, Any]) -> Call:
    """The call of a class, as a model with this config takes it."""
    call = CALLS[cls]
    if cls == "WanTransformer3DModel" and config.get("out_channels") == of.WIDE:
        return replace(call, pixels=32, size=Size(1280, 704, 121))
    return call
