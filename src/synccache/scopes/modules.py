"""Attention and feed-forward modules inside the blocks: blocks run, with these modules' outputs filled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core.anatomy import Anatomy, original_class
from ..core.types import Region
from ..errors import UnsupportedModel

ATTENTION = ("attn", "attention")


@dataclass(frozen=True)
class Modules:
    """One output per module and block, before the block's gate scales it, which stays live; so do norms and sums.

    Modules are found by name among a block's children (``Anatomy.parts``), cross-attention among them: where a block
    hears its audio or text through a module of its own, that is stale on skipped steps. A block that holds none
    (attention written into its forward) always runs.

    Where a block's attention and feed-forward end in one projection (FLUX's and HunyuanVideo's single blocks), its
    output is what is kept, and neither runs.

    Args:
        attention, feed_forward: which kinds are filled in.
    """

    attention: bool = True
    feed_forward: bool = True

    def regions(self, anatomy: Anatomy, start: int, plan: Any = None) -> tuple[Region, ...]:
        """One region for each module of the blocks from ``start`` on.

        Raises:
            UnsupportedModel: there is none.
        """
        found = []
        for index in range(start, len(anatomy.blocks)):
            joint = anatomy.joint(index) if self.attention and self.feed_forward else None
            if joint is not None:
                part, feeding = joint
                found.append(Region(f"block {index} {part}", (index,), "output", part, feeding))
                continue
            for part in anatomy.parts(index):
                attends = any(word in part.lower() for word in ATTENTION)
                if self.attention if attends else self.feed_forward:
                    found.append(Region(f"block {index} {part}", (index,), "output", part))
        if not found:
            names = " and ".join(dict.fromkeys(original_class(block).__name__ for block in anatomy.blocks))
            kinds = {"attention": self.attention, "feed-forward": self.feed_forward}
            wanted = " or ".join(kind for kind, on in kinds.items() if on) or "such"
            raise UnsupportedModel(
                f"No {wanted} module was found by name among the children of {names}, so there is nothing to fill in "
                "inside the blocks. Choose a method that leaves out whole blocks, such as 'interval'."
            )
        return tuple(found)
