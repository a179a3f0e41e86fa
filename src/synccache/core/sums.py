"""The formula that every forecaster comes down to: a value plus a weighted sum of anchors, perhaps group by group."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

# Elements that are worked on at a time where a copy is needed on the way.
PIECE = 1 << 22


def add_forecast(
    value: Tensor, anchors: Sequence[Tensor], weights: Tensor, shares: Tensor | None = None, onto: bool = True
) -> Tensor:
    """``value + sum_g P_g sum_j w[g, j] anchor[j]`` as a new tensor of ``value``'s dtype.

    Args:
        value: [B, S, D] what the segment received.
        anchors: each [B, S, D], newest first, on any device and in any dtype.
        weights: [G, J] float64 on the host.
        shares: [G, B or 1, S or 1, D or 1], each element's share in each group; None with one group.
        onto: False leaves out ``value`` itself, which then only says dtype and device.
    """
    if shares is None:
        return add_weighted(value, anchors, weights[0].tolist(), onto)
    kept = [j for j in range(len(anchors)) if bool((weights[:, j] != 0).any())]
    wide = torch.einsum("g...,gj->j...", shares.double(), weights[:, kept].to(shares.device))
    factors = wide.to(value.dtype if precise(value) else torch.float32).unbind()
    return add_weighted(value, [anchors[j] for j in kept], factors, onto)


def add_weighted(
    value: Tensor, anchors: Sequence[Tensor], factors: Sequence[Tensor | float], onto: bool = True
) -> Tensor:
    """``value + sum_j factors[j] anchors[j]`` as a new tensor of ``value``'s dtype; without ``value`` if not ``onto``.

    One pass per anchor into the result, and no other tensor of that size. What needs a copy (a sum of several anchors
    in half precision is carried in float32; an anchor may lie on another device or in another dtype) goes in pieces.
    """
    used = [(a, f) for a, f in zip(anchors, factors, strict=True) if isinstance(f, Tensor) or f != 0]
    if not used:
        return value.clone() if onto else torch.zeros_like(value)
    anchors, factors = [a for a, _ in used], [f for _, f in used]
    first = anchors[0]
    plain = not isinstance(factors[0], Tensor)
    if plain and len(used) == 1 and factors[0] == 1 and first.dtype is value.dtype and first.device == value.device:
        return value + first if onto else first.clone()
    rounded_once = len(used) == 1 and plain and first.dtype is value.dtype
    carried = value.dtype if precise(value) or rounded_once else torch.float32
    copies = carried is not value.dtype or any(a.device != value.device or a.element_size() == 1 for a in anchors)
    if not copies or value.numel() <= PIECE:
        return _sum(value, anchors, factors, carried, onto).to(value.dtype)
    result = torch.empty_like(value)
    for piece in pieces(value.shape):
        own = [f[_within(f, piece)] if isinstance(f, Tensor) else f for f in factors]
        result[piece] = _sum(value[piece], [a[piece] for a in anchors], own, carried, onto)
    return result


def _sum(
    value: Tensor, anchors: Sequence[Tensor], factors: Sequence[Tensor | float], carried: torch.dtype, onto: bool
) -> Tensor:
    """``value + sum_j factors[j] anchors[j]``, or without ``value``, in the dtype ``carried``."""
    start = value.to(carried)
    result = start if onto and start is not value else None
    for anchor, factor in zip((_ready(a, value) for a in anchors), factors, strict=True):
        if result is None and not onto:
            result = anchor * factor if anchor.dtype is carried else anchor.to(carried).mul_(factor)
        elif isinstance(factor, Tensor):
            result = torch.addcmul(start, anchor, factor) if result is None else result.addcmul_(anchor, factor)
        else:
            result = torch.add(start, anchor, alpha=factor) if result is None else result.add_(anchor, alpha=factor)
    assert result is not None
    return result


def precise(value: Tensor) -> bool:
    """Whether sums may be carried in the value's own dtype."""
    return value.dtype in (torch.float32, torch.float64)


def pieces(shape: Sequence[int], dims: Sequence[int] | None = None) -> Iterator[tuple[slice, ...]]:
    """Indices of the parts of a tensor, each of at most ``PIECE`` elements: cut along one of ``dims`` (None: any).

    The first that is long enough, so that parts lie together in memory; if none is, single slices of the longest.
    """
    count = -(-math.prod(shape) // PIECE)
    if count <= 1:
        yield (slice(None),) * len(shape)
        return
    dims = range(len(shape)) if dims is None else [d % len(shape) for d in dims]
    dim = next((d for d in dims if shape[d] >= count), max(dims, key=lambda d: shape[d]))
    length = max(1, shape[dim] // count)
    for start in range(0, shape[dim], length):
        yield tuple(slice(start, start + length) if d == dim else slice(None) for d in range(len(shape)))


def _within(factor: Tensor, piece: tuple[slice, ...]) -> tuple[slice, ...]:
    """The same part of what is broadcast over the dimensions that it has at length 1."""
    return tuple(slice(None) if n == 1 else s for n, s in zip(factor.shape, piece, strict=True))


def _ready(anchor: Tensor, like: Tensor) -> Tensor:
    moved = anchor.to(like.device, non_blocking=True)
    return moved.to(like.dtype) if moved.element_size() == 1 else moved
