"""Two groups: a subspace with a forecast of its own, and everything else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from ..core import sums
from ..core.sums import add_forecast, pieces, precise
from ..core.types import Context


class Projection(ABC):
    """``value + sum_j w_0j F_j + P sum_j (w_1j - w_0j) F_j``: group 1 is what the projector P keeps, group 0 the rest.

    Written so, a skipped step costs one pass over the anchors for each group and one projection, whatever their number;
    where both groups have the same weights, one pass and none. The groups' difference, and what P makes of it, are held
    in pieces, in float32 at least.
    """

    # P treats what lies apart along these dimensions apart, so that pieces can be cut along them.
    apart: tuple[int, ...] = ()

    def add(self, value: Tensor, anchors: Sequence[Tensor], weights: Tensor, context: Context, onto: bool) -> Tensor:
        change = weights[1:] - weights[:1]
        if not bool(change.any()) or not self.fits(value, context):
            return add_forecast(value, anchors, weights[:1], onto=onto)
        if value.numel() <= sums.PIECE:
            return self._sum(value, anchors, weights[:1], change, context, onto).to(value.dtype)
        result = torch.empty_like(value)
        for piece in pieces(value.shape, self.apart):
            own = [a[piece] for a in anchors]
            result[piece] = self._sum(value[piece], own, weights[:1], change, context, onto)
        return result

    def _sum(
        self, value: Tensor, anchors: Sequence[Tensor], rest: Tensor, change: Tensor, context: Context, onto: bool
    ) -> Tensor:
        """Float32 at least."""
        wide = value if precise(value) else value.float()
        result = add_forecast(wide, anchors, rest, onto=onto)
        self.add_kept(result, add_forecast(wide, anchors, change, onto=False), context)
        return result

    @abstractmethod
    def fits(self, value: Tensor, context: Context) -> bool:
        """Whether such a value can be projected; if not, all of it goes with group 0."""

    @abstractmethod
    def add_kept(self, result: Tensor, change: Tensor, context: Context) -> None:
        """``result += P change``, in place; both [B, S, D] float32 or float64, or a piece cut along ``apart``."""
