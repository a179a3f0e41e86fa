"""Compute the last steps of a run whose length is known."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.types import Step
from .wrapper import Wrapper


@dataclass(frozen=True)
class Last(Wrapper):
    """Computes the last ``steps`` steps. Where nobody tells how long the run is, it does nothing."""

    steps: int = 1

    @property
    def needs_length(self) -> bool:
        return self.steps > 0

    def forced(self, step: Step, computed_at: int | None, skipped: int) -> str | None:
        return "last" if step.total is not None and step.index >= step.total - self.steps else None
