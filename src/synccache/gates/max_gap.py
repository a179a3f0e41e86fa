"""Bound the runs of skips."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.types import Step
from .wrapper import Wrapper


@dataclass(frozen=True)
class MaxGap(Wrapper):
    """Computes when the last computed step is ``steps`` back: at most ``steps - 1`` skips in a row."""

    steps: int = 4

    def forced(self, step: Step, computed_at: int | None, skipped: int) -> str | None:
        return "max gap" if computed_at is not None and step.index - computed_at >= self.steps else None
