"""Wan's own class: text- and image-to-video of Wan2.1 and Wan2.2, with one transformer or two experts.

Read from the releases (github.com/Wan-Video/Wan2.1 and Wan2.2, ``wan/modules/model.py``): ``forward(x, t, context,
seq_len, y=None)`` takes lists of latents [C, T, h, w], and pads the tokens to ``seq_len`` behind the video's. Many
repositories for audio-driven video call their class ``WanModel`` too and put further modules into its blocks, so one
is recognised by what its blocks hold.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..core.anatomy import Anatomy, original_class
from .parts import attribute, is_named, patch_of, video_grid

_PARTS = {"norm1", "self_attn", "norm3", "cross_attn", "norm2", "ffn"}
_INPUTS = {"patch_embedding", "text_embedding", "time_embedding", "time_projection", "img_emb", "blocks", "head"}


def recognise(model: nn.Module) -> Anatomy | None:
    """Anatomy of a ``WanModel`` whose blocks hold attention and feed-forward, and nothing else."""
    blocks = getattr(model, "blocks", None)
    if not is_named(model, "WanModel") or not isinstance(blocks, nn.ModuleList) or not blocks:
        return None
    known = all(set(_children(block)) <= _PARTS for block in blocks)
    if not known or not set(dict(model.named_children())) <= _INPUTS:
        return None
    return Anatomy(
        name="wan-official",
        blocks=tuple(blocks),
        timestep="t",
        latent="x",
        sites=(),
        streams={original_class(blocks[0]).__name__: {"x": 0}},
        grid=video_grid("x", patch_of(model)),
        width=attribute(model, "dim"),
        signal=_modulation,
        group=lambda: _group(model),
    )


def _children(block: nn.Module) -> dict[str, nn.Module]:
    inner = block._modules.get("_fsdp_wrapped_module", block)
    return dict(inner.named_children()) if inner is not None else {}


def _modulation(arguments: Mapping[str, Any]) -> Tensor:
    """The modulation [B, 6, D] of the last token: of TI2V's, which has one for each token, the first may be clean."""
    e: Tensor = arguments["e"]
    return e[:, -1] if e.ndim == 4 else e


def _group(model: nn.Module) -> Any:
    """All ranks, where Ulysses' forward was put onto the model: they share its tokens."""
    several = torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1
    return "world" if several and "forward" in model.__dict__ else None
