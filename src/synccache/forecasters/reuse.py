"""Give back the newest anchor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.types import Context
from .rule import Rule


@dataclass(frozen=True)
class Reuse(Rule):
    """``F(t) = F_0``. One anchor; the only forecaster that amplifies nothing."""

    anchors = 1

    def weights(self, times: Sequence[float], t: float, context: Context) -> Tensor:
        weights = torch.zeros(1, len(times), dtype=torch.float64)
        weights[0, 0] = 1
        return weights
