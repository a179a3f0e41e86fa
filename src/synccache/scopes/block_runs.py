"""Some of the blocks: each run of neighbours among them is one region, the others always run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core.anatomy import Anatomy
from ..core.types import Region
from ..errors import InputError
from .pieces import pieces


@dataclass(frozen=True)
class BlockRuns:
    """Each maximal run a..b of consecutive blocks on the list stores one ``h_b - h_(a-1)`` per stream.

    Paper: ProfilingDiT, ICCV 2025. What the model adds between two blocks of a run is kept out of the stored value and
    stays live, where the release, made for models that add nothing there, would have it stale. A run ends where the
    token sequence or the class of block changes, and at a block that can't be left out.

    Args:
        blocks: their indices.
        of: how many blocks the model has that the list is for; None: any that has them.
    """

    blocks: tuple[int, ...]
    of: int | None = None

    def regions(self, anatomy: Anatomy, start: int, plan: Any = None) -> tuple[Region, ...]:
        """The runs from block ``start`` on.

        Raises:
            InputError: the list is for another model.
        """
        count, listed = len(anatomy.blocks), set(self.blocks)
        wrong = sorted(i for i in listed if not 0 <= i < count)
        if wrong or self.of not in (None, count):
            what = f"has block {wrong[0]}" if self.of in (None, count) else f"is for a model of {self.of} blocks"
            raise InputError(
                f"The list of blocks {what}, and this one ({anatomy.name}) has {count}, numbered from 0. Give blocks= "
                "with its own, or a profile that synccache.learn_profile made of it."
            )
        turns = {i for i in range(count - 1) if (i in listed) != (i + 1 in listed)}
        runs = [p for p in pieces(anatomy, start, {*turns, *anatomy.cuts}) if p[0] in listed]
        return tuple(Region(f"blocks {p[0]}-{p[-1]}", p) for p in runs)
