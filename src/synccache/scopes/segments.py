"""The blocks between injection sites: SyncCache's modality-decoupled caching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..engine.anatomy import Anatomy
from ..engine.types import Region
from ..errors import InputError
from .pieces import pieces


@dataclass(frozen=True)
class Segments:
    """One residual per segment and stream; the injection modules in between run live on every step.

    Paper: SyncCache, arXiv 2606.30849. With L_a sites and S segments, ``n = min(S, max(1, floor(ratio * L_a)))``
    residuals are kept; which segments merge, a plan says (else they are spread evenly). A merged segment adds the sum
    of its residuals at its head.

    Args:
        ratio: cache ratio in (0, 1]; 1 keeps every site, also where there is one segment more than sites.
        boundaries: instead, the sites (block indices) after which a kept segment ends.
    """

    ratio: float = 1.0
    boundaries: tuple[int, ...] | None = None

    def regions(self, anatomy: Anatomy, start: int, plan: Any = None) -> tuple[Region, ...]:
        sites = tuple(anatomy.sites or ())
        inner = inner_sites(anatomy, start)
        if self.boundaries is not None:
            wrong = [b for b in self.boundaries if b not in inner]
            if wrong and anatomy.sites is not None:
                given = list(self.boundaries)
                raise InputError(f"boundaries={given}: {wrong[0]} is no inner site. Choose from {list(inner)}.")
            ends = tuple(self.boundaries)
        else:
            segments = len(inner) + 1
            kept = segments if self.ratio == 1 else min(segments, max(1, int(self.ratio * len(sites) + 1e-9)))
            if kept == segments:
                ends = inner
            elif plan is not None:
                ends = plan.boundaries(kept)
            else:
                ends = tuple(inner[round(i * segments / kept) - 1] for i in range(1, kept))
        return tuple(Region(f"blocks {p[0]}-{p[-1]}", p) for p in pieces(anatomy, start, {*ends, *anatomy.cuts}))


def inner_sites(anatomy: Anatomy, start: int) -> tuple[int, ...]:
    """The sites that lie strictly between two blocks after the probe."""
    return tuple(s for s in anatomy.sites or () if start <= s < len(anatomy.blocks) - 1)
