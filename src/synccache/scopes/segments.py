"""The blocks between injection sites: SyncCache's modality-decoupled caching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..core.anatomy import Anatomy
from ..core.types import Region
from ..errors import InputError
from .boundaries import best_path
from .pieces import pieces


@dataclass(frozen=True)
class Segments:
    """One residual per segment and stream; the injection modules in between run live on every step.

    Paper: SyncCache, arXiv 2606.30849. With L_a sites and S segments, ``n = min(S, max(1, floor(ratio * L_a)))``
    residuals are kept; which segments merge, a plan says (else they are spread evenly). A merged segment adds the sum
    of its residuals at its head. No segment reaches beyond blocks of one kind, which may take more than n.

    Args:
        ratio: cache ratio in (0, 1]; 1 keeps every site, also where there is one segment more than sites.
        boundaries: instead, the sites (block indices) after which a kept segment ends.
    """

    ratio: float = 1.0
    boundaries: tuple[int, ...] | None = None

    def regions(self, anatomy: Anatomy, start: int, plan: Any = None) -> tuple[Region, ...]:
        inner = inner_sites(anatomy, start)
        if self.boundaries is not None:
            wrong = [b for b in self.boundaries if b not in inner]
            if wrong and anatomy.sites is not None:
                given = list(self.boundaries)
                raise InputError(f"boundaries={given}: {wrong[0]} is no inner site. Choose from {list(inner)}.")
            ends: Sequence[int] = self.boundaries
        else:
            ends = self._ends(anatomy, inner, pieces(anatomy, start, {*inner, *anatomy.cuts}), plan)
        return tuple(Region(f"blocks {p[0]}-{p[-1]}", p) for p in pieces(anatomy, start, {*ends, *anatomy.cuts}))

    def _ends(self, anatomy: Anatomy, inner: tuple[int, ...], parts: list[tuple[int, ...]], plan: Any) -> Sequence[int]:
        """The blocks after which one of the kept segments ends; ``parts`` are the segments before any is merged."""
        sites = len(anatomy.sites or ())
        kept = len(parts) if self.ratio == 1 else max(1, int(self.ratio * sites + 1e-9))
        must = [p[-1] for p in parts[:-1] if p[-1] in anatomy.cuts]
        if kept >= len(parts):
            return inner
        if kept <= len(must) + 1:
            return must
        if plan is not None:
            known = [end for end in must if end in plan.ends]
            return plan.boundaries(kept - len(must) + len(known), known)
        even = [[(k - j) ** 2 for k in range(len(parts) + 1)] for j in range(len(parts) + 1)]
        path = best_path(even, kept, [i + 1 for i, p in enumerate(parts) if p[-1] in must])
        return [parts[node - 1][-1] for node in path[1:-1]]


def inner_sites(anatomy: Anatomy, start: int) -> tuple[int, ...]:
    """The sites that lie strictly between two blocks after the probe."""
    return tuple(s for s in anatomy.sites or () if start <= s < len(anatomy.blocks) - 1)
