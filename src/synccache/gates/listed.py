"""Compute the steps on a list."""

from __future__ import annotations

from dataclasses import dataclass

from ..engine.types import Action, Decision, Seen, Step
from .scheduled import Scheduled


@dataclass(frozen=True)
class Listed(Scheduled):
    """Computes the steps whose index is in ``schedule``, and no other (the first step of a run is always computed)."""

    schedule: frozenset[int]
    probe: int = 0

    def decide(self, state: None, step: Step, seen: Seen) -> tuple[Decision, None]:
        return Decision(Action.COMPUTE if step.index in self.schedule else Action.FILL, "listed"), None
