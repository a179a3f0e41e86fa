"""DiCache's trajectory alignment: as far along the line through two anchors as the probe has gone along its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.types import Context, Gate, Region, Seen, innermost
from .rule import Rule


@dataclass(frozen=True)
class Alignment(Rule):
    """``F = F_1 + gamma (F_0 - F_1)``, ``gamma = clip(mean|q - q_1| / mean|q_0 - q_1|, 1, upper)``.

    The quotient is the second ratio that ``gates.Trajectory`` measures; steps don't count. In a batch gamma is the mean
    of the samples' own. With one anchor, and where the quotient isn't known or isn't finite (0/0: the probe hasn't
    moved), gamma is 1: reuse. A gate that doesn't measure the quotient is refused.

    Paper: DiCache (dynamic cache trajectory alignment), arXiv 2508.17356, ICLR 2026. Its release takes one mean over a
    whole batch, which is the same for one sample.

    Args:
        upper: the most that gamma may be; 1.5 for HunyuanVideo and FLUX, 2 for Wan.
    """

    upper: float = 1.5
    anchors = 2

    def refuses(self, gate: Gate, regions: Sequence[Region]) -> str | None:
        measured = innermost(gate).measure.ratios
        if measured > 1:
            return None
        return (
            f"Alignment goes by the second ratio that a gate measures (how far along its path the probe is), and this "
            f"gate measures {measured}. Choose a gate with Trajectory in it (that of 'dicache'), or another forecaster."
        )

    def weights(self, times: Sequence[float], t: float, context: Context) -> Tensor:
        weights = torch.zeros(1, len(times), dtype=torch.float64)
        gamma = self.gamma(context.seen) if len(times) > 1 else 1.0
        weights[0, : min(len(times), 2)] = torch.tensor([gamma, 1 - gamma], dtype=torch.float64)[: len(times)]
        return weights

    def gamma(self, seen: Seen) -> float:
        """The share of the way from the older to the newer anchor, 1 to ``upper``."""
        ways = [ratios[1] for ratios in seen.ratios or () if len(ratios) > 1]
        clipped = [min(max(way, 1.0), self.upper) if math.isfinite(way) else 1.0 for way in ways]
        return sum(clipped) / len(clipped) if clipped else 1.0
