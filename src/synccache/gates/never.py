"""Compute every step: the control that must equal the untouched model, and the way to profile one."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.types import Action, Decision, Measure, Run, Seen, Step
from .scheduled import Blind


@dataclass(frozen=True)
class Never:
    """Never skips. A ``measure`` still measures its errors, for profiles."""

    measure: Measure = Blind()  # noqa: RUF009 (frozen)
    skips = False

    def init(self, run: Run) -> None:
        return None

    def decide(self, state: None, step: Step, seen: Seen) -> tuple[Decision, None]:
        return Decision(Action.COMPUTE, "never skips", seen.error), None

    def record(self, state: None, step: Step, decision: Decision, seen: Seen) -> None:
        return None
