"""A run's steps by their number: those at its ends, the others at even distances, errors over another length."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from .last import Last
from .warmup import Warmup


def protected_ends(gate: Any, total: int, computed: int) -> tuple[int, int]:
    """How many first and last steps of ``total`` the ``Warmup`` and ``Last`` inside ``gate`` compute.

    Where only ``computed`` steps may be computed, the last ones come first; the warm-up gets what remains, and at least
    one step.
    """
    warmup = last = 0
    while hasattr(gate, "gate"):
        if isinstance(gate, Warmup):
            warmup = max(warmup, gate.count(total))
        if isinstance(gate, Last):
            last = max(last, gate.steps)
        gate = gate.gate
    last = min(last, computed - 1)
    return max(1, min(warmup, computed - last)), last


def spread(total: int, computed: int, first: int, last: int) -> tuple[int, ...]:
    """``computed`` steps of ``total``: the ``first`` and the ``last`` ones, the others evenly in between.

    >>> spread(12, computed=5, first=2, last=1)
    (0, 1, 4, 8, 11)
    """
    between, way = computed - first - last, total - last - first + 1
    inner = [first - 1 + (2 * n * way + between + 1) // (2 * (between + 1)) for n in range(1, between + 1)]
    return (*range(first), *inner, *range(total - last, total))


def stretched(errors: Sequence[float | None], total: int) -> tuple[float | None, ...]:
    """Errors for a run of ``total`` steps from those of another length: the same path, walked in other strides."""
    if len(errors) == total or total < 2 or len(errors) < 2:
        return tuple(errors)
    path = [0.0]
    for e in errors[1:]:
        path.append(path[-1] + (e or 0.0))

    def at(u: float) -> float:
        place = u * (len(path) - 1)
        low = min(int(place), len(path) - 2)
        return path[low] + (place - low) * (path[low + 1] - path[low])

    points = [at(i / (total - 1)) for i in range(total)]
    return (None, *(b - a for a, b in pairwise(points)))
