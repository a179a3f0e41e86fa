"""Everything after the probe as one region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core.anatomy import Anatomy
from ..core.types import Region
from ..errors import InputError
from .pieces import pieces


@dataclass(frozen=True)
class WholeStack:
    """One value per stream for all blocks after the probe (one for each run of like blocks).

    Args:
        absorb: False: the sum of the blocks' residuals; what the model injects in between stays live. True: last output
            minus first input, as in the published whole-stack caches: what was injected in between is part of the value
            and stale on skipped steps. The model's own code still runs those injections and their result is dropped, so
            a skipped step costs a little more than in a cache that replaces the loop; an injection after the last block
            stays live, since it lies outside the stack.
        keep_last: so many blocks at the end always run (DBCache's Bn).
    """

    absorb: bool = True
    keep_last: int = 0

    def regions(self, anatomy: Anatomy, start: int, plan: Any = None) -> tuple[Region, ...]:
        count = len(anatomy.blocks)
        end = count - self.keep_last
        if start >= end:
            raise InputError(
                f"The first {start} and the last {self.keep_last} blocks always run, and {anatomy.name} has {count}, "
                "so none is left to be cached. Let fewer run."
            )
        value = "absorbed" if self.absorb else "residual"
        parts = (tuple(i for i in p if i < end) for p in pieces(anatomy, start, anatomy.cuts))
        return tuple(Region(f"blocks {p[0]}-{p[-1]}", p, value) for p in parts if p)
