"""Series about the newest anchor, with divided differences in place of derivatives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.types import Context
from .rule import Rule


@dataclass(frozen=True)
class Taylor(Rule):
    """``F_0 + sum_i f[t_0..t_i] k^i``, k steps behind the newest anchor; f are divided differences.

    Paper: TaylorSeer, arXiv 2503.06923, ICCV 2025. With even gaps these are its weights; with uneven ones its release
    divides the second slope by the wrong distance, which is put right here. Up to order 1 it is ``Lagrange``; above, it
    bends less than the polynomial through the anchors.

    Args:
        order: of the series; ``order + 1`` anchors are held. With fewer the order is lower.
    """

    order: int = 1

    @property
    def anchors(self) -> int:
        return self.order + 1

    def weights(self, times: Sequence[float], t: float, context: Context) -> Tensor:
        used = min(len(times), self.order + 1)
        weights = torch.zeros(1, len(times), dtype=torch.float64)
        for power in range(used):
            value = self._basis(power, t - times[0])
            for j, weight in enumerate(divided_difference(times[: power + 1])):
                weights[0, j] += value * weight
        return weights

    def _basis(self, power: int, k: float) -> float:
        return k**power


@dataclass(frozen=True)
class Hermite(Taylor):
    """The same with ``sigma^i H_i(sigma k)`` in place of ``k^i``, H the physicists' Hermite polynomials.

    Paper: HiCache, ICLR 2026. Order 1 is a line of slope ``2 sigma^2``: half of it at 0.5, all of it at sqrt(1/2). k
    counts forward in steps; the paper's minus sign goes with timesteps, which fall.

    Args:
        sigma: contraction, over 0 and up to 1.
    """

    sigma: float = 0.5

    def _basis(self, power: int, k: float) -> float:
        x = self.sigma * k
        before, value = 0.0, 1.0
        for n in range(power):
            before, value = value, 2 * x * value - 2 * n * before
        return self.sigma**power * value


def divided_difference(times: Sequence[float]) -> list[float]:
    """Weights of the values at ``times`` in their divided difference f[t_0..t_n]."""
    return [1 / math.prod(a - b for i, b in enumerate(times) if i != j) for j, a in enumerate(times)]
