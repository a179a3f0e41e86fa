"""Qwen-Image, Qwen-Image-Edit and Qwen-Image-Layered in diffusers: double blocks only, latents packed as tokens.

Reference pictures (Edit) follow the image tokens. A ControlNet adds its residuals to the image tokens between the
blocks, whatever these hold: one segment spans them, and they stay live.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..core.anatomy import Anatomy, Grid
from .image_parts import IMAGE_AND_TEXT
from .parts import attribute, is_named, token_width


def recognise(model: nn.Module) -> Anatomy | None:
    """Anatomy of ``QwenImageTransformer2DModel``."""
    if not is_named(model, "QwenImageTransformer2DModel"):
        return None
    return Anatomy(
        name="qwen-image",
        blocks=tuple(model.transformer_blocks),
        sites=(),
        streams={"QwenImageTransformerBlock": IMAGE_AND_TEXT},
        grid=_shapes_grid(layered=bool(attribute(model, "use_layer3d_rope"))),
        width=token_width(model),
    )


def _shapes_grid(layered: bool) -> Grid:
    """Token grid from ``img_shapes``: for each sample (t, h, w), or a list of these with the reference pictures' last.

    Args:
        layered: all but the last shape are layers of the picture to be made, which count as frames.
    """

    def grid(arguments: Mapping[str, Any]) -> tuple[int, int, int] | None:
        samples = arguments.get("img_shapes")
        if not samples or any(sample != samples[0] for sample in samples):
            return None
        shapes = samples[0] if isinstance(samples[0], list) else [samples[0]]
        t, h, w = shapes[0]
        layers = shapes[:-1] if layered and len(shapes) > 1 else shapes[:1]
        return (t * len(layers), h, w) if all(tuple(s) == (t, h, w) for s in layers) else None

    return grid
