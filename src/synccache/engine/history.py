"""Anchors: what was stored on computed steps, and the sum that predicts from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Anchor:
    """A stored value [B, S, D] and the step that it was computed on."""

    time: float
    value: Tensor

    @property
    def bytes(self) -> int:
        return self.value.numel() * self.value.element_size()


class History:
    """The newest few anchors of one (request, expert, branch, region, stream), newest first."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.anchors: list[Anchor] = []
        self._products: dict[tuple[float, float], float] = {}

    def make_room(self) -> None:
        """Drop what the next anchor will push out, before that one is built: the bound holds at every moment."""
        del self.anchors[max(0, self.capacity - 1) :]

    def push(self, time: float, value: Tensor) -> None:
        """Take in a value that nobody else writes to. A second one for the same step (Heun) replaces the first.

        Anchors of another shape, from before the number of tokens or samples changed, are dropped.
        """
        if self.anchors and self.anchors[0].time == time:
            self.anchors.pop(0)
            self._products = {}
        self.make_room()
        self.anchors = [Anchor(time, value), *(a for a in self.anchors if a.value.shape == value.shape)]

    def gram(self) -> Tensor:
        """[J, J] float64 on the host: inner products of the anchors, those of new ones brought over together."""
        pairs = [(a, b) for i, a in enumerate(self.anchors) for b in self.anchors[i:]]
        new = [(a, b) for a, b in pairs if (a.time, b.time) not in self._products]
        if new:
            values = torch.stack([_inner(a.value, b.value) for a, b in new]).tolist()
            known = self._products | {(a.time, b.time): v for (a, b), v in zip(new, values, strict=True)}
            self._products = {(a.time, b.time): known[a.time, b.time] for a, b in pairs}
        order = sorted(self.times, reverse=True)
        rows = [[self._products[max(a, b), min(a, b)] for b in order] for a in order]
        return torch.tensor(rows, dtype=torch.float64)

    @property
    def times(self) -> tuple[float, ...]:
        return tuple(a.time for a in self.anchors)

    @property
    def bytes(self) -> int:
        return sum(a.bytes for a in self.anchors)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Their inner product in float64, in pieces, so that no copy of a feature's size is made."""
    parts = zip(a.reshape(-1).split(1 << 22), b.reshape(-1).split(1 << 22), strict=True)
    return torch.stack([x.double() @ y.double() for x, y in parts]).sum()


def add_forecast(
    value: Tensor, anchors: Sequence[Tensor], weights: Tensor, shares: Tensor | None = None, onto: bool = True
) -> Tensor:
    """``value + sum_g P_g sum_j w[g, j] anchor[j]`` as a new tensor of ``value``'s dtype.

    One pass per anchor into the result; no other tensor of that size, except that a sum of several anchors in half
    precision is carried in float32.

    Args:
        value: [B, S, D] what the segment received.
        anchors: each [B, S, D], newest first, on any device and in any dtype.
        weights: [G, J] float64 on the host.
        shares: [G, B or 1, S or 1, D or 1], each element's share in each group; None with one group.
        onto: False leaves out ``value`` itself, which then only says dtype and device.
    """
    precise = value.dtype in (torch.float32, torch.float64)
    kept = [j for j in range(len(anchors)) if bool((weights[:, j] != 0).any())]
    if not kept:
        return value.clone() if onto else torch.zeros_like(value)
    single = len(kept) == 1 and shares is None
    carry = value if precise or single else value.float()
    factors = None
    if shares is not None:
        factors = torch.einsum("g...,gj->j...", shares.double(), weights.to(shares.device)).to(carry.dtype)
    result = carry if onto and carry is not value else None
    for j in kept:
        anchor = _ready(anchors[j], value)
        factor: Tensor | float = float(weights[0, j]) if factors is None else factors[j]
        if result is None and not onto:
            result = (anchor if single else anchor.to(carry.dtype)) * factor
        elif isinstance(factor, Tensor):
            result = torch.addcmul(carry, anchor, factor) if result is None else result.addcmul_(anchor, factor)
        else:
            result = torch.add(carry, anchor, alpha=factor) if result is None else result.add_(anchor, alpha=factor)
    assert result is not None
    return result.to(value.dtype)


def _ready(anchor: Tensor, like: Tensor) -> Tensor:
    moved = anchor.to(like.device, non_blocking=True)
    return moved.to(like.dtype) if moved.element_size() == 1 else moved
