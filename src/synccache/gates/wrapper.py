"""A gate around a gate: the inner one always decides too, and learns what was really done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

from ..core.types import Action, Decision, Gate, Run, Seen, Step


@dataclass(frozen=True)
class Wrapper(ABC):
    """Asks the inner gate, then computes for a reason of its own where ``forced`` gives one.

    The state is (inner state, index of the last computed step, skips so far).
    """

    gate: Gate

    def init(self, run: Run) -> Any:
        return self.gate.init(run), None, 0

    @abstractmethod
    def forced(self, step: Step, computed_at: int | None, skipped: int) -> str | None:
        """Why this step has to be computed, or None."""

    def decide(self, state: Any, step: Step, seen: Seen) -> tuple[Decision, Any]:
        inner, computed_at, skipped = state
        decision, inner = self.gate.decide(inner, step, seen)
        reason = self.forced(step, computed_at, skipped)
        if reason is not None and decision.fills:
            decision = replace(decision, action=Action.COMPUTE, actions=None, reason=reason)
        return decision, (inner, computed_at, skipped)

    def record(self, state: Any, step: Step, decision: Decision, seen: Seen) -> Any:
        inner, computed_at, skipped = state
        inner = self.gate.record(inner, step, decision, seen)
        return inner, computed_at if decision.fills else step.index, skipped + decision.fills
