"""One-step rules of ODE solvers, as HyCa's pool has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from ..core.types import Context
from .rule import Rule
from .series import divided_difference


@dataclass(frozen=True)
class Solver(Rule):
    """``F_0 + a1 k f[t_0, t_1] + 2 a2 k^2 f[t_0, t_1, t_2]``, k steps behind the newest anchor.

    One anchor gap ahead on even gaps that is the published ``F_0 + a1 (F_0 - F_1) + a2 (F_0 - 2 F_1 + F_2)``. How a
    rule goes on over several skipped steps the paper leaves open (again and again from its own predictions, or once
    over a longer step): here the step is stretched. ``a1 = 1`` continues straight lines exactly. With two anchors the
    second term is left out, with one it is reuse.
    """

    slope: float
    bend: float = 0.0

    @property
    def anchors(self) -> int:
        return 3 if self.bend else 2 if self.slope else 1

    def weights(self, times: Sequence[float], t: float, context: Context) -> Tensor:
        weights = torch.zeros(1, len(times), dtype=torch.float64)
        weights[0, 0] = 1
        k = t - times[0]
        for power, factor in ((1, self.slope * k), (2, 2 * self.bend * k * k)):
            if len(times) > power and factor:
                weights[0, : power + 1] += factor * torch.tensor(
                    divided_difference(times[: power + 1]), dtype=torch.float64
                )
        return weights


# Runge-Kutta 2, Adams-Bashforth 2, Taylor, backward differentiation 2, Adams-Moulton; weights as a third party's port
# cites them from the paper's appendix A.2.2. Reuse is ours. The order is part of what a learned profile means.
POOL = MappingProxyType(
    {
        "reuse": Solver(0.0),
        "rk2": Solver(1.0, -1 / 2),
        "ab2": Solver(1.0, 1 / 2),
        "taylor": Solver(1.0),
        "bdf2": Solver(1 / 3),
        "am": Solver(1.0, 7 / 24),
    }
)
