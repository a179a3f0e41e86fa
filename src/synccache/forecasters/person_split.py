"""Two token groups by the person mask, each with a forecaster of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.sums import add_forecast
from ..core.types import Context, Forecaster
from .grouped import Grouped


@dataclass(frozen=True)
class TokenSplit:
    """Group 0 is the person, group 1 everything else (background, reference, motion and text tokens)."""

    def add(self, value: Tensor, anchors: Sequence[Tensor], weights: Tensor, context: Context, onto: bool) -> Tensor:
        shares = self.shares(value, context)
        return add_forecast(value, anchors, weights if shares is not None else weights[:1], shares, onto)

    def shares(self, value: Tensor, context: Context) -> Tensor | None:
        """[2, B or 1, S, 1] for a stream [B, S, D]; None without a mask."""
        if context.mask is None or value.ndim != 3:
            return None
        mask = context.mask.to(value.device)
        person = mask.new_zeros(mask.shape[0], value.shape[1])
        person[:, context.offset : context.offset + mask.shape[1]] = mask
        return torch.stack([person, 1 - person])[..., None]


@dataclass(frozen=True)
class ByPerson(Grouped):
    """``F = M F_person + (1 - M) F_background``: a soft mask blends the two forecasts. Without a mask all is person."""

    person: Forecaster
    background: Forecaster
    split = TokenSplit()

    @property
    def rules(self) -> tuple[Forecaster, ...]:  # type: ignore[override]
        return self.person, self.background
