"""Attention and feed-forward modules inside the blocks: blocks run, with these modules' outputs filled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..engine.anatomy import Anatomy
from ..engine.types import Region

ATTENTION = ("attn", "attention")


@dataclass(frozen=True)
class Modules:
    """One output per module and block, before the block's gate scales it, which stays live; so do norms and sums.

    Modules are found by name among a block's children. A block that holds none (attention written into its forward)
    always runs.

    Args:
        attention, feed_forward: which kinds are filled in.
    """

    attention: bool = True
    feed_forward: bool = True

    def regions(self, anatomy: Anatomy, start: int, plan: Any = None) -> tuple[Region, ...]:
        found = []
        for index in range(start, len(anatomy.blocks)):
            for part in anatomy.parts(index):
                attends = any(word in part for word in ATTENTION)
                if self.attention if attends else self.feed_forward:
                    found.append(Region(f"block {index} {part}", (index,), "output", part))
        return tuple(found)
