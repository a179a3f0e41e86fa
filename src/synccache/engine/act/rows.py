"""Steps that compute some of the tokens: which rows of a stream these are, and what goes into a block with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...core.anatomy import argument_names, by_class, original_class
from ...core.groups import Groups, take
from ...core.structure import Structure
from ..store.rows import RowHistory


class Rows:
    """The rows of a stream of ``total`` tokens that a step computes.

    Attributes:
        index: [B or 1, n], ascending: the active groups' tokens; those that aren't the video's go with the last group.
        sums: float32 [B, n, D] by region: what its blocks have added so far.
    """

    def __init__(self, groups: Groups, active: tuple[int, ...], first: int, total: int) -> None:
        self.groups, self.active, self.first, self.total = groups, active, first, total
        self.index = groups.tokens(active) + first
        if len(groups.sizes) - 1 in active:
            ends = (0, first), (first + groups.order.shape[1], total)
            ahead, behind = (torch.arange(*e, device=self.index.device).expand(len(self.index), -1) for e in ends)
            self.index = torch.cat([ahead, self.index, behind], dim=1)
        self.sums: dict[str, Tensor] = {}
        self._gathered: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def count(self) -> int:
        return self.index.shape[1]

    def keep(self, history: Any, time: float, fresh: Tensor) -> None:
        """Take the rows that were computed into what is kept."""
        assert isinstance(history, RowHistory)
        history.push_rows(time, self.groups, self.active, self.first, self.index, fresh)

    def arguments(
        self, structure: Structure, index: int, stream: Tensor, args: tuple, kwargs: Mapping[str, Any]
    ) -> tuple[tuple, dict[str, Any]]:
        """(args, kwargs) of block ``index`` with ``stream`` as its stream, and of all else that has rows those of its
        tokens."""
        cls = original_class(structure.anatomy.blocks[index])
        names, per_row = argument_names(cls), by_class(structure.anatomy.rows, cls)
        main = next(iter(structure.streams(index)))

        def given(name: str, value: Any) -> Any:
            return stream if name == main else self._of(value, per_row[name]) if name in per_row else value

        positional = (*names, *[""] * len(args))
        return (
            tuple(given(n, v) for n, v in zip(positional, args, strict=False)),
            {n: given(n, v) for n, v in kwargs.items()},
        )

    def _of(self, value: Any, dimensions: int) -> Any:
        """The rows of a tensor that has one for each token, also in a tuple or a list; other values as they are."""
        if isinstance(value, list | tuple):
            return type(value)(self._of(v, dimensions) for v in value)
        if not isinstance(value, Tensor) or value.ndim != dimensions or value.shape[1] != self.total:
            return value
        if id(value) not in self._gathered:  # all blocks are called with the same
            self._gathered[id(value)] = value, take(value, self.index, 1)
        return self._gathered[id(value)][1]
