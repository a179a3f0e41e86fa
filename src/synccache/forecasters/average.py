"""Moving averages of anchors and of their slopes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.types import Context
from .rule import Rule


def decaying(beta: float, count: int) -> list[float]:
    """Weights, newest first, of ``E <- beta E + (1 - beta) F`` started at the oldest, which keeps the remainder."""
    return [(1 - beta) * beta**j for j in range(count - 1)] + [beta ** (count - 1)]


@dataclass(frozen=True)
class Average(Rule):
    """The exponential moving average ``E <- beta E + (1 - beta) F`` over the anchors that are held.

    It is no forecast: it lags behind the newest anchor, the more the higher beta is. Weights are over 0 and sum to 1.

    Args:
        beta: weight of the past; 0 is reuse.
        anchors: how many are held. The average starts at the oldest one, which weighs ``beta^(anchors - 1)``.
    """

    beta: float = 0.9
    anchors: int = 8

    def weights(self, times: Sequence[float], t: float, context: Context) -> Tensor:
        used = min(len(times), self.anchors)
        weights = decaying(self.beta, used) + [0.0] * (len(times) - used)
        return torch.tensor([weights], dtype=torch.float64)


@dataclass(frozen=True)
class Slopes(Rule):
    """``F_0 + (t - t_0) S``, S the moving average ``S <- beta S + (1 - beta) slope`` of the slopes between anchors.

    Straight lines are continued exactly, on any gaps. With two anchors it is linear, with one reuse.

    Args:
        beta: weight of the past slopes; 0 takes the newest alone.
        anchors: how many are held, one more than slopes.
    """

    beta: float = 0.9
    anchors: int = 8

    def weights(self, times: Sequence[float], t: float, context: Context) -> Tensor:
        weights = torch.zeros(1, len(times), dtype=torch.float64)
        weights[0, 0] = 1
        used = min(len(times), self.anchors)
        for j, share in enumerate(decaying(self.beta, used - 1) if used > 1 else []):
            slope = share * (t - times[0]) / (times[j] - times[j + 1])
            weights[0, j] += slope
            weights[0, j + 1] -= slope
        return weights
