"""Bound the number of skips in a run."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.types import Step
from .wrapper import Wrapper


@dataclass(frozen=True)
class MaxSkips(Wrapper):
    """Computes all that comes after ``steps`` skipped steps.

    Paper: DBCache (cache-dit, 2025), which calls it the most cached steps.
    """

    steps: int = 0

    def forced(self, step: Step, computed_at: int | None, skipped: int) -> str | None:
        return "max skips" if skipped >= self.steps else None
