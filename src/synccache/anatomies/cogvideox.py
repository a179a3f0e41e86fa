"""CogVideoX in diffusers: latents are [B, T, C, H, W]; video and text go through each block apart."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..core.anatomy import Anatomy, Grid
from .parts import is_named, patch_of, token_width


def recognise(model: nn.Module) -> Anatomy | None:
    """Anatomy of ``CogVideoXTransformer3DModel``, 1.0 and 1.5."""
    if not is_named(model, "CogVideoXTransformer3DModel"):
        return None
    return Anatomy(
        name="cogvideox",
        blocks=tuple(model.transformer_blocks),
        sites=(),
        streams={"CogVideoXBlock": {"hidden_states": 0, "encoder_hidden_states": 1}},
        grid=_frames_first(patch_of(model)),
        width=token_width(model),
    )


def _frames_first(patch: tuple[int, int, int]) -> Grid:
    """Token grid of ``hidden_states`` [B, T, C, H, W]."""

    def grid(arguments: Mapping[str, Any]) -> tuple[int, int, int]:
        t, _, h, w = arguments["hidden_states"].shape[1:]
        return -(-t // patch[0]), h // patch[1], w // patch[2]

    return grid
