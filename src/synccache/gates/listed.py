"""Compute the steps on a list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..engine.types import Action, Decision, Run, Seen, Step


@dataclass(frozen=True)
class Listed:
    """Computes the steps whose index is in ``schedule``, and no other (the first step of a run is always computed)."""

    schedule: frozenset[int]
    probe: int = 0
    skips = True

    def init(self, run: Run) -> None:
        return None

    def measure(self, seen: Seen) -> None:
        return None

    def decide(self, state: None, step: Step, seen: Seen) -> tuple[Decision, None]:
        return Decision(Action.COMPUTE if step.index in self.schedule else Action.FILL, "listed"), None

    def record(self, state: Any, step: Step, decision: Decision, seen: Seen) -> Any:
        return state
