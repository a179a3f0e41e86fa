"""The whole transformer as one region: nothing of it runs on a skipped step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core.anatomy import Anatomy
from ..core.types import Region


@dataclass(frozen=True)
class WholeModel:
    """What the model returns; conditioning, embedding and head are stale on skipped steps too.

    The gate has to decide before the model runs, so it can't be one that probes blocks. Stored values are as small as a
    latent.

    Args:
        residual: store output minus latent (EasyCache) instead of the output (L2P).
    """

    residual: bool = False

    def regions(self, anatomy: Anatomy, start: int, plan: Any = None) -> tuple[Region, ...]:
        return (Region("model", (), "residual" if self.residual else "output"),)
