"""What the anatomies share: class names, patch sizes, token grids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..core.anatomy import Grid, original_class, tensors_in

# What diffusers' Wan blocks have for each token: rotary positions, and where frames have timesteps of their own
# (image-to-video of Wan2.2's small model), modulation.
WAN_ROWS = {"WanTransformerBlock": {"rotary_emb": 4, "temb": 4}}


def is_named(model: nn.Module, *names: str) -> bool:
    """Whether the model's class, or one that it derives from, has one of these names."""
    return any(cls.__name__ in names for cls in original_class(model).__mro__)


def attribute(model: nn.Module, name: str, default: Any = None) -> Any:
    """``model.config.name`` if there is one, else ``model.name``: diffusers warns where it is read the other way."""
    config = getattr(model, "config", None)
    return getattr(config, name) if hasattr(config, name) else getattr(model, name, default)


def token_width(model: nn.Module) -> int | None:
    """Channels of a token, from the number and the width of the attention heads; None where they aren't told."""
    heads, width = attribute(model, "num_attention_heads"), attribute(model, "attention_head_dim")
    return heads * width if heads and width else None


def patch_of(model: nn.Module) -> tuple[int, int, int]:
    """(t, h, w) of a patch, from ``patch_size`` as one, two or three numbers, and ``patch_size_t`` if there is one."""
    size = attribute(model, "patch_size", 1)
    sizes = (size,) if isinstance(size, int) else tuple(size)
    frames = attribute(model, "patch_size_t") or 1
    return (frames, sizes[0], sizes[-1]) if len(sizes) < 3 else (sizes[0], sizes[1], sizes[2])


def video_grid(latent: str, patch: tuple[int, int, int]) -> Grid:
    """Token grid of a latent [B, C, T, H, W], or of a list of [C, T, H, W]."""

    def grid(arguments: Mapping[str, Any]) -> tuple[int, int, int] | None:
        tensors: list[Tensor] = tensors_in(arguments.get(latent))
        if not tensors or tensors[0].ndim < 4:
            return None
        t, h, w = tensors[0].shape[-3:]
        return t // patch[0], h // patch[1], w // patch[2]

    return grid
