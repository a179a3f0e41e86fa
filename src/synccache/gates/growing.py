"""Compute at intervals that grow as the run goes on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..core.types import Action, Decision, Run, Seen, Step
from .scheduled import Scheduled


@dataclass(frozen=True)
class Growing(Scheduled):
    """Computes when ``floor(interval)`` steps have passed since the last computed one; then it grows by ``growth``.

    Only steps that it asks for itself let it grow, not those that a wrapper forces, such as a warm-up. Within
    ``Warmup(.., 5)`` it gives 14 of 50 steps at an interval of 2 and a growth of 0.75, and 10 at a growth of 3: those
    of Spectrum, arXiv 2603.01623, CVPR 2026. The state is (last computed step, interval, whether it asked).
    """

    interval: float = 2.0
    growth: float = 0.75
    probe: int = 0

    def init(self, run: Run) -> Any:
        return None, float(self.interval), False

    def decide(self, state: Any, step: Step, seen: Seen) -> tuple[Decision, Any]:
        last, interval, _ = state
        due = last is not None and step.index - last >= math.floor(interval)
        action = Action.COMPUTE if due or last is None else Action.FILL
        return Decision(action, f"every {math.floor(interval)}"), (last, interval, due)

    def record(self, state: Any, step: Step, decision: Decision, seen: Seen) -> Any:
        last, interval, due = state
        if decision.fills:
            return last, interval, False
        return step.index, interval + (self.growth if due else 0.0), False
