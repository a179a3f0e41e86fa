"""Wan2.2-Animate in diffusers: a face module is added after blocks 0, 5, 10, ... and sees this step's face video.

The motion and face encoders run before the blocks, so on every step. The first latent frame is the reference picture:
its tokens lie ahead of the video's.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..core.anatomy import Anatomy
from .parts import attribute, is_named, patch_of, token_width, video_grid


def recognise(model: nn.Module) -> Anatomy | None:
    """Anatomy of ``WanAnimateTransformer3DModel``."""
    if not is_named(model, "WanAnimateTransformer3DModel"):
        return None
    every = attribute(model, "inject_face_latents_blocks")
    whole = video_grid("hidden_states", patch_of(model))

    def video(arguments: Mapping[str, Any]) -> tuple[int, int, int] | None:
        grid = whole(arguments)
        return None if grid is None else (grid[0] - 1, grid[1], grid[2])

    def reference(arguments: Mapping[str, Any]) -> int:
        grid = whole(arguments)
        return 0 if grid is None else grid[1] * grid[2]

    return Anatomy(
        name="wan-animate",
        blocks=tuple(model.blocks),
        sites=tuple(range(0, len(model.blocks), every)),
        streams={"WanTransformerBlock": {"hidden_states": 0}},
        grid=video,
        ahead=reference,
        width=token_width(model),
    )
