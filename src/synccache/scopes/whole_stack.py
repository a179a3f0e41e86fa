"""Everything after the probe as one region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..engine.anatomy import Anatomy
from ..engine.types import Region
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
    """

    absorb: bool = True

    def regions(self, anatomy: Anatomy, start: int, plan: Any = None) -> tuple[Region, ...]:
        value = "absorbed" if self.absorb else "residual"
        return tuple(Region(f"blocks {p[0]}-{p[-1]}", p, value) for p in pieces(anatomy, start, anatomy.cuts))
