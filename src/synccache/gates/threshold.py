"""Compute when the errors summed since the last computed step exceed a threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..core.types import Action, Decision, Measure, Run, Seen, Step
from .probe import Probe


@dataclass(frozen=True)
class Threshold:
    """Adds up the errors that ``measure`` gives; over ``threshold`` the step is computed and the sum starts again at 0.

    A step without an error (nothing to compare with) or with one that isn't finite is computed. The state is the sum.
    """

    threshold: float
    measure: Measure = field(default_factory=Probe)
    skips = True

    def init(self, run: Run) -> float:
        return 0.0

    def decide(self, state: float, step: Step, seen: Seen) -> tuple[Decision, float]:
        error = seen.error
        if error is None:
            return Decision(Action.COMPUTE, "nothing to compare with"), state
        if not math.isfinite(error):
            return Decision(Action.COMPUTE, "error not finite", error), state
        total = state + error
        if total > self.threshold:
            return Decision(Action.COMPUTE, "error", error, total), total
        return Decision(Action.FILL, "error", error, total), total

    def record(self, state: float, step: Step, decision: Decision, seen: Seen) -> float:
        return state if decision.fills else 0.0
