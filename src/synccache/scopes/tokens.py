"""Blocks of which some tokens are computed and the others filled in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..core.anatomy import Anatomy, by_class, original_class
from ..core.types import Region, Scope
from ..errors import UnsupportedModel


@dataclass(frozen=True)
class Tokens:
    """The regions of another scope, each token with times of its own.

    Beside what a region stores, all its blocks' keys and values are kept, and the model's output.

    Args:
        scope: of blocks whose residuals are summed.
        limit: how many bytes may be kept at most, over all guidance branches; None: as many as are free.
    """

    scope: Scope
    limit: int | None = None

    def regions(self, anatomy: Anatomy, start: int, plan: Any = None) -> tuple[Region, ...]:
        """The inner scope's.

        Raises:
            UnsupportedModel: it isn't known of these blocks that they can compute some of their tokens alone.
        """
        found = self.scope.regions(anatomy, start, plan)
        blocks = {i for r in found for i in r.members}
        classes = {original_class(anatomy.blocks[i]) for i in blocks}
        known = {c for c in classes if by_class(anatomy.rows, c) is not None}
        unknown = sorted(c.__name__ for c in classes if c not in known or len(by_class(anatomy.streams, c) or ()) != 1)
        if unknown or anatomy.grid is None or not all(r.members and r.value == "residual" for r in found):
            what = f"of {', '.join(unknown)}" if unknown else "where its video tokens lie"
            raise UnsupportedModel(
                f"Nothing is known of {anatomy.name} that lets some tokens be computed without the others: {what}. "
                "This works on diffusers' WanTransformer3DModel and the built-in portrait model; give anatomy= with "
                "rows, streams and grid for your own, or choose a method that leaves out whole blocks."
            )
        return tuple(replace(r, rows=True) for r in found)
