"""Continue the polynomial through the last anchors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.types import Context
from .rule import Rule


@dataclass(frozen=True)
class Lagrange(Rule):
    """``w_j = prod_{i != j} (t* - t_i) / (t_j - t_i)`` with ``t* = t_0 + contraction * d``.

    The distance d is ``min(t - t_0, max_gap, reach * (t_0 - t_1))``. Exact for polynomials of degree ``order`` on any
    gaps, when ``contraction`` is 1 and ``t`` within ``max_gap`` and ``reach``. With fewer anchors the order is lower.
    The gain (sum of |w|) grows with the distance: order 1 at one anchor gap has 3.

    Args:
        order: degree of the polynomial; ``order + 1`` anchors are held.
        contraction: part of the way that is extrapolated: 1 as the polynomial goes, 0.5 damped, 0 reuse.
        max_gap: beyond this many steps from the newest anchor the forecast stands still.
        reach: the same in gaps between the two newest anchors: where these lie close together, as at the end of a
            warm-up, they tell little about what comes far behind them.
    """

    order: int = 1
    contraction: float = 1.0
    max_gap: float = float("inf")
    reach: float = float("inf")

    @property
    def anchors(self) -> int:
        return self.order + 1

    def weights(self, times: Sequence[float], t: float, context: Context) -> Tensor:
        known = times[0] - times[1] if len(times) > 1 else 1.0
        target = times[0] + self.contraction * min(t - times[0], self.max_gap, self.reach * known)
        used = min(len(times), self.order + 1)
        weights = torch.zeros(1, len(times), dtype=torch.float64)
        for j in range(used):
            product = 1.0
            for i in range(used):
                if i != j:
                    product *= (target - times[i]) / (times[j] - times[i])
            weights[0, j] = product
        return weights
