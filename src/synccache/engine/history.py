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

    def make_room(self) -> None:
        """Drop what the next anchor will push out, before that one is built: the bound holds at every moment."""
        del self.anchors[max(0, self.capacity - 1) :]

    def push(self, time: float, value: Tensor) -> None:
        """Take in a value that nobody else writes to. A second one for the same step (Heun) replaces the first."""
        if self.anchors and self.anchors[0].time == time:
            self.anchors.pop(0)
        self.make_room()
        self.anchors.insert(0, Anchor(time, value))

    @property
    def times(self) -> tuple[float, ...]:
        return tuple(a.time for a in self.anchors)

    @property
    def bytes(self) -> int:
        return sum(a.bytes for a in self.anchors)


def add_forecast(value: Tensor, anchors: Sequence[Tensor], weights: Tensor, groups: Tensor | None = None) -> Tensor:
    """``value + sum_g P_g sum_j w[g, j] anchor[j]`` as a new tensor of ``value``'s dtype.

    One pass per anchor into the result; no other tensor of that size, except that a sum of several anchors in half
    precision is carried in float32.

    Args:
        value: [B, S, D] what the segment received.
        anchors: each [B, S, D], newest first, on any device and in any dtype.
        weights: [G, J] float64 on the host.
        groups: [G, B or 1, S] share of each token in each group; None with one group.
    """
    precise = value.dtype in (torch.float32, torch.float64)
    kept = [j for j in range(len(anchors)) if bool((weights[:, j] != 0).any())]
    if not kept:
        return value.clone()
    carry = value if precise or (len(kept) == 1 and groups is None) else value.float()
    per_token = None
    if groups is not None:
        per_token = torch.einsum("gbs,gj->jbs", groups.double(), weights.to(groups.device)).to(carry.dtype)[..., None]
    result = None if carry is value else carry
    for j in kept:
        anchor = _ready(anchors[j], value)
        if per_token is not None:
            share = per_token[j]
            result = torch.addcmul(carry, anchor, share) if result is None else result.addcmul_(anchor, share)
        else:
            weight = float(weights[0, j])
            result = torch.add(carry, anchor, alpha=weight) if result is None else result.add_(anchor, alpha=weight)
    assert result is not None
    return result.to(value.dtype)


def _ready(anchor: Tensor, like: Tensor) -> Tensor:
    moved = anchor.to(like.device, non_blocking=True)
    return moved.to(like.dtype) if moved.element_size() == 1 else moved
