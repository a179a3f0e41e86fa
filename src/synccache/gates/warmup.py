"""Compute the first steps of a run."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.types import Step
from .wrapper import Wrapper

ASSUMED_STEPS = 40


@dataclass(frozen=True)
class Warmup(Wrapper):
    """Computes the first ``steps`` steps: a count, or a fraction (below 1) of the run, of 40 steps if its length is not
    known. Early steps decide what the picture will be, and forecasts need anchors."""

    steps: float = 0.1

    @property
    def needs_length(self) -> bool:
        return 0 < self.steps < 1

    def count(self, total: int | None) -> int:
        return round(self.steps) if self.steps >= 1 else round(self.steps * (total or ASSUMED_STEPS))

    def forced(self, step: Step, computed_at: int | None, skipped: int) -> str | None:
        return "warm-up" if step.index < self.count(step.total) else None
