"""Anchors that have a row for each token, of which some are computed alone."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ...core.groups import ROWS, Groups, put_, take
from .anchors import History


class RowHistory(History):
    """The newest few values of each token. A group that was computed alone has newer ones than the others.

    Attributes:
        groups, first: of the rows that were stored alone; the row of the first video token. Rows of tokens that aren't
            the video's go with the last group.
        times: the steps on which all rows were computed.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self.groups: Groups | None = None
        self.first = 0
        self._times: dict[int, tuple[float, ...]] = {}

    def times_of(self, group: int) -> tuple[float, ...]:
        """The steps that the values of a group's tokens were computed on, newest first."""
        return self._times.get(group, self.times)

    def push(self, time: float, value: Tensor) -> None:
        super().push(time, value)
        kept = {g: times[1:] if times[:1] == (time,) else times for g, times in self._times.items()}
        self._times = {g: (time, *times)[: len(self.values)] for g, times in kept.items()}

    def push_rows(
        self, time: float, groups: Groups, active: Sequence[int], first: int, index: Tensor, rows: Tensor
    ) -> None:
        """Take in new values of the rows ``index`` [B or 1, n], those of the ``active`` groups.

        A second one for the same step replaces the first.
        """
        if groups is not self.groups:  # there are new ones behind full steps only
            self.groups, self.first, self._times = groups, first, {}
        if self.values[0].is_inference() and not torch.is_inference_mode_enabled():
            self.values = [value.clone() for value in self.values]
        again = all(self.times_of(g)[:1] == (time,) for g in active)
        if not again:
            if len(self.values) < self.capacity:
                self.values.append(self.values[-1].clone())
            for newer, older in reversed(list(pairwise(self.values))):
                put_(older, index, take(newer, index.to(newer.device)))
        put_(self.values[0], index, rows)
        for g in active:
            self._times[g] = (time, *self.times_of(g)[again:])[: self.capacity]

    @property
    def key(self) -> Hashable:
        if self.groups is None:
            return self.times
        times = tuple(self.times_of(g) for g in range(len(self.groups.sizes)))
        return times, self.first, self.values[0].shape[ROWS], self.values[0].ndim

    def factors(self, weights: Callable[[tuple[float, ...]], list[float]]) -> Sequence[float | Tensor]:
        count = len(self.values)
        groups = range(len(self.groups.sizes)) if self.groups is not None else (0,)
        table = [(weights(self.times_of(g)) + [0.0] * count)[:count] for g in groups]
        if all(row == table[0] for row in table) or self.groups is None:
            return table[0]
        value, numbers = self.values[0], self.groups.numbers
        own = torch.tensor(table, dtype=torch.float32).to(numbers.device)[numbers]  # [B or 1, V, anchors]
        every = own.new_tensor(table[-1]).repeat(len(own), value.shape[ROWS], 1)
        every[:, self.first : self.first + own.shape[1]] = own
        narrow = [len(own), *[1] * (value.ndim - 3), value.shape[ROWS], 1]
        return [factor.reshape(narrow) for factor in every.unbind(-1)]
