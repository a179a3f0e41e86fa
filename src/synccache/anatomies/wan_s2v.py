"""Wan2.2-S2V, the official class: 40 blocks, audio written into the video tokens in place after twelve of them.

Read from the release (github.com/Wan-Video/Wan2.2, ``wan/modules/s2v/model_s2v.py``): ``forward(x, t, context, ...)``
takes lists of latents [C, T, h, w]; blocks are called ``block(x, e=..., ...)``; reference and motion tokens follow the
video tokens. Recognised by class name; its repository is not imported.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..core.anatomy import Anatomy
from .parts import attribute, is_named, patch_of, video_grid


def recognise(model: nn.Module) -> Anatomy | None:
    """Anatomy of a ``WanModel_S2V``."""
    if not is_named(model, "WanModel_S2V"):
        return None
    return Anatomy(
        name="wan-s2v",
        blocks=tuple(model.blocks),
        timestep="t",
        latent="x",
        sites=tuple(sorted(int(i) for i in model.audio_injector.injected_block_id)),
        streams={"WanS2VAttentionBlock": {"x": 0}},
        grid=video_grid("x", patch_of(model)),
        width=attribute(model, "dim"),
        signal=_modulation,
    )


def _modulation(arguments: Mapping[str, Any]) -> Tensor:
    """The video tokens' part [B, 6, D] of the modulation ``e=[[B, 6, 2, D], ...]``, or e as it is."""
    e = arguments["e"]
    return e[0][:, :, 0] if isinstance(e, list | tuple) else e
