"""Cutting the blocks after the probe into consecutive pieces."""

from __future__ import annotations

from collections.abc import Iterable

from ..core.anatomy import Anatomy


def pieces(anatomy: Anatomy, start: int, after: Iterable[int]) -> list[tuple[int, ...]]:
    """Runs of block indices from ``start`` on, each ending after a block in ``after``; fixed blocks are in none."""
    ends, fixed = set(after), set(anatomy.fixed)
    found: list[tuple[int, ...]] = []
    current: list[int] = []
    for index in range(start, len(anatomy.blocks)):
        if index not in fixed:
            current.append(index)
        if current and (index in ends or index in fixed or index == len(anatomy.blocks) - 1):
            found.append(tuple(current))
            current = []
    return found
