"""LTX-Video, and LTX-2 with video and audio tokens in one model, in diffusers: latents come as tokens [B, S, C].

The grid is read from the sizes that the model is called with. Tokens that LTX-2's pipelines append for conditioning
follow the video's; where only coordinates are given (LTX-Video's condition pipeline puts its tokens first), the grid
is unknown. In LTX-2 audio and video look at each other inside each block, so both streams are filled in.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..core.anatomy import Anatomy, Grid
from .parts import is_named, patch_of, token_width


def recognise(model: nn.Module) -> Anatomy | None:
    """Anatomy of ``LTXVideoTransformer3DModel`` or ``LTX2VideoTransformer3DModel``."""
    if not is_named(model, "LTXVideoTransformer3DModel", "LTX2VideoTransformer3DModel"):
        return None
    second = is_named(model, "LTX2VideoTransformer3DModel")
    return Anatomy(
        name="ltx-2" if second else "ltx-video",
        blocks=tuple(model.transformer_blocks),
        sites=(),
        streams={
            "LTXVideoTransformerBlock": {"hidden_states": 0},
            "LTX2VideoTransformerBlock": {"hidden_states": 0, "audio_hidden_states": 1},
        },
        grid=_told_grid(patch_of(model) if second else (1, 1, 1)),
        width=token_width(model),
    )


def _told_grid(patch: tuple[int, int, int]) -> Grid:
    """Token grid from ``num_frames``, ``height`` and ``width``; None where one is missing or they don't fit."""

    def grid(arguments: Mapping[str, Any]) -> tuple[int, int, int] | None:
        told = [arguments.get(name) for name in ("num_frames", "height", "width")]
        sizes, tokens = [s for s in told if isinstance(s, int)], arguments.get("hidden_states")
        if len(sizes) < 3 or not isinstance(tokens, Tensor):
            return None
        t, h, w = (-(-s // p) for s, p in zip(sizes, patch, strict=True))
        return (t, h, w) if t * h * w <= tokens.shape[1] else None

    return grid
