"""Anchors: what was stored on computed steps."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from ...core.sums import PIECE


class History:
    """The newest few anchors of one (request, expert, branch, region, stream), newest first.

    Attributes:
        values: the anchors, each [B, S, D]; ``times``: the steps that they were computed on.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.values: list[Tensor] = []
        self.times: tuple[float, ...] = ()
        self._products: dict[tuple[float, float], float] = {}

    def make_room(self) -> None:
        """Drop what the next anchor will push out, before that one is built: the bound holds at every moment."""
        kept = max(0, self.capacity - 1)
        self.values, self.times = self.values[:kept], self.times[:kept]

    def push(self, time: float, value: Tensor) -> None:
        """Take in a value that nobody else writes to. A second one for the same step (Heun) replaces the first.

        Anchors of another shape, from before the number of tokens or samples changed, are dropped.
        """
        if self.times[:1] == (time,):
            self.values, self.times, self._products = self.values[1:], self.times[1:], {}
        self.make_room()
        kept = [(t, v) for t, v in zip(self.times, self.values, strict=True) if v.shape == value.shape]
        self.times, self.values = (time, *[t for t, _ in kept]), [value, *[v for _, v in kept]]

    @property
    def key(self) -> Hashable:
        """The same for all histories whose ``factors`` are."""
        return self.times

    def factors(self, weights: Callable[[tuple[float, ...]], list[float]]) -> Sequence[float | Tensor]:
        """What each of ``values`` counts, where ``weights`` says so by the times."""
        return weights(self.times)

    def gram(self) -> Tensor:
        """[J, J] float64 on the host: inner products of the anchors, those of new ones brought over together."""
        anchors = list(zip(self.times, self.values, strict=True))
        pairs = {(t, u): (a, b) for i, (t, a) in enumerate(anchors) for u, b in anchors[i:]}
        new = [pair for pair in pairs if pair not in self._products]
        if new:
            values = torch.stack([_inner(*pairs[pair]) for pair in new]).tolist()
            known = self._products | dict(zip(new, values, strict=True))
            self._products = {pair: known[pair] for pair in pairs}
        order = sorted(self.times, reverse=True)
        rows = [[self._products[max(a, b), min(a, b)] for b in order] for a in order]
        return torch.tensor(rows, dtype=torch.float64)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Their inner product in float64, in pieces, so that no copy of a feature's size is made."""
    parts = zip(a.reshape(-1).split(PIECE), b.reshape(-1).split(PIECE), strict=True)
    return torch.stack([x.double() @ y.double() for x, y in parts]).sum()
