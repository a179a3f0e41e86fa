"""Anchors: what was stored on computed steps, and the sum that predicts from them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...core.sums import PIECE


@dataclass(frozen=True)
class Anchor:
    """A stored value [B, S, D] and the step that it was computed on."""

    time: float
    value: Tensor

    @property
    def bytes(self) -> int:
        return self.value.numel() * self.value.element_size()


class History:
    """The newest few anchors of one (request, expert, branch, region, stream), newest first.

    Attributes:
        times: of the anchors.
        bytes: that they hold.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.anchors: list[Anchor] = []
        self.times: tuple[float, ...] = ()
        self.bytes = 0
        self._products: dict[tuple[float, float], float] = {}

    def make_room(self) -> None:
        """Drop what the next anchor will push out, before that one is built: the bound holds at every moment."""
        if len(self.anchors) >= self.capacity:
            self._hold(self.anchors[: max(0, self.capacity - 1)])

    def push(self, time: float, value: Tensor) -> None:
        """Take in a value that nobody else writes to. A second one for the same step (Heun) replaces the first.

        Anchors of another shape, from before the number of tokens or samples changed, are dropped.
        """
        if self.times[:1] == (time,):
            self.anchors.pop(0)
            self._products = {}
        kept = self.anchors[: self.capacity - 1]
        self._hold([Anchor(time, value), *(a for a in kept if a.value.shape == value.shape)])

    def _hold(self, anchors: list[Anchor]) -> None:
        self.anchors = anchors
        self.times = tuple([a.time for a in anchors])
        self.bytes = sum([a.bytes for a in anchors])

    def newest(self, shape: torch.Size) -> tuple[Tensor, ...]:
        """The values that have this shape."""
        return tuple(a.value for a in self.anchors if a.value.shape == shape)

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


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Their inner product in float64, in pieces, so that no copy of a feature's size is made."""
    parts = zip(a.reshape(-1).split(PIECE), b.reshape(-1).split(PIECE), strict=True)
    return torch.stack([x.double() @ y.double() for x, y in parts]).sum()
