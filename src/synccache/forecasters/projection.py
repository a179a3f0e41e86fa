"""Two groups: a subspace with a forecast of its own, and everything else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from ..engine.history import add_forecast
from ..engine.types import Context


class Projection(ABC):
    """``value + sum_j w_0j F_j + P sum_j (w_1j - w_0j) F_j``: group 1 is what the projector P keeps, group 0 the rest.

    Written so, a skipped step costs one pass over the anchors for each group and one projection, whatever their number;
    where both groups have the same weights, one pass and none. It takes two more tensors of the value's size while it
    runs (float32 at least).
    """

    def add(self, value: Tensor, anchors: Sequence[Tensor], weights: Tensor, context: Context, onto: bool) -> Tensor:
        change = weights[1:] - weights[:1]
        if not bool(change.any()) or not self.fits(value, context):
            return add_forecast(value, anchors, weights[:1], onto=onto)
        wide = value if value.dtype in (torch.float32, torch.float64) else value.float()
        result = add_forecast(wide, anchors, weights[:1], onto=onto)
        self.add_kept(result, add_forecast(wide, anchors, change, onto=False), context)
        return result.to(value.dtype)

    @abstractmethod
    def fits(self, value: Tensor, context: Context) -> bool:
        """Whether such a value can be projected; if not, all of it goes with group 0."""

    @abstractmethod
    def add_kept(self, result: Tensor, change: Tensor, context: Context) -> None:
        """``result += P change``, in place; both [B, S, D] float32 or float64."""
