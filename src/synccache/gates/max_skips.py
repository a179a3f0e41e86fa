"""Bound the number of skips in a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ..engine.types import Action, Decision, Gate, Run, Seen, Step, Watch


@dataclass(frozen=True)
class MaxSkips:
    """Computes all that comes after ``steps`` skipped steps. The state is (inner state, skips so far).

    Paper: DBCache (cache-dit, 2025), which calls it the most cached steps.
    """

    gate: Gate
    steps: int

    @property
    def probe(self) -> int:
        return self.gate.probe

    @property
    def watches(self) -> Mapping[str, Watch]:
        return self.gate.watches

    @property
    def skips(self) -> bool:
        return self.gate.skips

    def init(self, run: Run) -> Any:
        return self.gate.init(run), 0

    def measure(self, seen: Seen) -> Tensor | None:
        return self.gate.measure(seen)

    def decide(self, state: Any, step: Step, seen: Seen) -> tuple[Decision, Any]:
        inner, skipped = state
        decision, inner = self.gate.decide(inner, step, seen)
        if decision.fills and skipped >= self.steps:
            decision = replace(decision, action=Action.COMPUTE, plan=None, reason="max skips")
        return decision, (inner, skipped)

    def record(self, state: Any, step: Step, decision: Decision, seen: Seen) -> Any:
        inner, skipped = state
        return self.gate.record(inner, step, decision, seen), skipped + decision.fills
