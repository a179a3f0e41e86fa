"""The front and the rear of the stack, for gates that leave out the one or the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core.anatomy import Anatomy
from ..core.types import Region
from .pieces import pieces


@dataclass(frozen=True)
class Spans:
    """``h_out - h_in`` of the first and of the last blocks, as regions whose ids begin with ``front`` and ``rear``.

    Paper: Δ-DiT, arXiv 2406.01125. Where the two spans overlap (a share over one half), what they have in common is a
    region of its own, ``middle``: both spans are sums of regions, so that each block has one stored value only. Where
    they don't meet, the blocks between them always run. What the model adds between blocks stays live.

    Args:
        share: each span's part of the blocks, over 0 and up to 1.
    """

    share: float = 0.5

    def regions(self, anatomy: Anatomy, start: int, plan: Any = None) -> tuple[Region, ...]:
        count = len(anatomy.blocks)
        length = max(1, round(self.share * (count - start)))
        front, rear = start + length, count - length  # the first block behind the front span, and of the rear one
        names = {(True, False): "front", (True, True): "middle", (False, True): "rear"}
        found = []
        for p in pieces(anatomy, start, {front - 1, rear - 1, *anatomy.cuts}):
            name = names.get((p[0] < front, p[0] >= rear))
            if name is not None:
                found.append(Region(f"{name} {p[0]}-{p[-1]}", p))
        return tuple(found)
