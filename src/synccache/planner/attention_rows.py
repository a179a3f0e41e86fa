"""A few rows of a block's self-attention, and what they tell of where a person is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..core.anatomy import original_class
from ..errors import UnsupportedModel

_NAMES = ("attn1", "attn", "self_attn", "attention")
_INSIDE = ("to_q", "to_k", "heads")


def spread(count: int, wanted: int, turn: int = 0) -> Tensor:
    """[min(wanted, count)] int64 indices below ``count``, others at each turn, spread by the golden ratio: so that they
    are in step with no row or frame."""
    if wanted >= count:
        return torch.arange(count)
    numbers = torch.arange(turn * wanted, (turn + 1) * wanted, dtype=torch.float64)
    return (numbers * ((5**0.5 - 1) / 2) % 1 * count).long()


def self_attention(block: nn.Module) -> nn.Module:
    """The block's self-attention module, in diffusers' manner.

    Raises:
        UnsupportedModel: there is none that can be read.
    """
    named = dict(block.named_children())
    for name in _NAMES:
        module = named.get(name)
        if module is not None and all(hasattr(module, inside) for inside in _INSIDE):
            return module
    raise UnsupportedModel(
        f"{original_class(block).__name__} holds no self-attention with to_q, to_k and heads, of which the attention "
        "could be read. Find its background blocks in another way, and give them as blocks=[...]."
    )


def attention(module: Any, hidden: Tensor, queries: Tensor, rotary: Any = None) -> Iterator[Tensor]:
    """Attention of some queries to all tokens, head by head: each [B, n, S] float32, rows summing to 1.

    Args:
        hidden: [B, S, D] what the module is called with.
        queries: [n] indices of tokens.
        rotary: (cosine, sine), each [1, S, 1, d] or [S, d], pairs of channels side by side; or None.
    """
    query, key = module.to_q(hidden[:, queries]), module.to_k(hidden)
    if getattr(module, "norm_q", None) is not None:
        query, key = module.norm_q(query), module.norm_k(key)
    query, key = (x.float().unflatten(-1, (module.heads, -1)) for x in (query, key))
    if rotary is not None:
        cosine, sine = (t.float().reshape(1, -1, 1, t.shape[-1]) for t in rotary)
        query = turned(query, cosine[:, queries], sine[:, queries])
        key = turned(key, cosine, sine)
    for head in range(module.heads):
        logits = query[:, :, head] @ key[:, :, head].transpose(1, 2)
        yield (logits / query.shape[-1] ** 0.5).softmax(-1)


def turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Pairs of channels of ``x`` [B, n, heads, d] turned by angles whose tables [1, n, 1, d] hold each one twice."""
    one, two = x.unflatten(-1, (-1, 2)).unbind(-1)
    c, s = cosine[..., 0::2], sine[..., 1::2]
    return torch.stack([one * c - two * s, one * s + two * c], dim=-1).flatten(-2)


def column_sums(module: Any, hidden: Tensor, queries: Tensor, rotary: Any = None) -> Tensor:
    """[B, S] attention that each token receives from ``queries``, the mean over these and the heads."""
    return torch.stack([a.mean(1) for a in attention(module, hidden, queries, rotary)]).mean(0)


def overlap(received: Tensor, person: Tensor, frames: int) -> Tensor:
    """The part of the person's tokens that receive more than the mean of their frame: a scalar, 0 to 1.

    Args:
        received: [B, V] attention to each video token.
        person: [B or 1, V] weight of each.
        frames: V is this many frames of equal size. Frames without a person don't count.
    """
    by_frame = received.unflatten(1, (frames, -1))
    is_person = (person >= 0.5).expand_as(received).unflatten(1, (frames, -1))
    favoured = by_frame > by_frame.mean(-1, keepdim=True)
    size = is_person.sum(-1)
    return ((favoured & is_person).sum(-1) / size.clamp_min(1))[size > 0].mean()
