"""Compute every n-th step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core.types import Action, Decision, Seen, Step
from .scheduled import Scheduled


@dataclass(frozen=True)
class Interval(Scheduled):
    """Computes when ``interval`` steps have passed since the last computed one, which is the state."""

    interval: int
    probe: int = 0

    def decide(self, state: int | None, step: Step, seen: Seen) -> tuple[Decision, int | None]:
        due = state is None or step.index - state >= self.interval
        return Decision(Action.COMPUTE if due else Action.FILL, f"every {self.interval}"), state

    def record(self, state: Any, step: Step, decision: Decision, seen: Seen) -> Any:
        return state if decision.fills else step.index
