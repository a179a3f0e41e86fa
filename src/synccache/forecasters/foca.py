"""FoCa: the feature as an ODE's solution, one implicit step ahead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.types import Context
from .lagrange import Lagrange
from .rule import Rule
from .series import divided_difference


@dataclass(frozen=True)
class Foca(Rule):
    """A BDF2 step from the two newest anchors, with the slope that three anchors have at the newest.

    ``F = (1+r)^2/(1+2r) F_0 - r^2/(1+2r) F_1 + (1+r)/(1+2r) k F_0'``, r = k over the newest gap: BDF2 with unequal
    steps, made explicit by the slope. ``heun=True`` calibrates by the mean of that slope and of BDF2's own at the value
    so reached; by the equation above they are the same, so what is left is ``F_0 + k F_0'``.

    Paper: FoCa, AAAI 2026. Its equations could not be read; L2P quotes (7/3, -5/3, 1/3) at r = 1 and even gaps, which
    is the first form, and the abstract speaks of Heun's calibration, which is the second: (5/2, -2, 1/2). Both are
    exact for straight lines. With two anchors it is linear, with one reuse.
    """

    heun: bool = False
    anchors = 3

    def weights(self, times: Sequence[float], t: float, context: Context) -> Tensor:
        if len(times) < 3:
            return Lagrange(1).weights(times, t, context)
        k, gap = t - times[0], times[0] - times[1]
        r = k / gap
        slope = torch.tensor([*divided_difference(times[:2]), 0.0], dtype=torch.float64)
        slope += gap * torch.tensor(divided_difference(times[:3]), dtype=torch.float64)
        newest, older = torch.eye(3, dtype=torch.float64)[:2]
        bdf2 = ((1 + r) ** 2 * newest - r**2 * older + (1 + r) * k * slope) / (1 + 2 * r)
        reached = newest + k * slope if self.heun else bdf2
        return torch.nn.functional.pad(reached, (0, len(times) - 3))[None]
