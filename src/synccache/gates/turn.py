"""Δ-DiT's rule: one end of the stack is left out in the first part of a run, the other end in the second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..engine.types import Action, Decision, Run, Seen, Step
from .scheduled import Scheduled
from .warmup import ASSUMED_STEPS


@dataclass(frozen=True)
class Turn(Scheduled):
    """Every n-th step is computed; of the others, those before step b run the regions of one name, the rest another's.

    Paper: Δ-DiT, arXiv 2406.01125: the front blocks draw outlines, which early steps need, the rear ones details. A
    region is known by how its id begins; the others, and all where the scope has none of these names, are filled in on
    every step that isn't computed. What regions there are is asked for when a run starts: where they are cut anew
    after its first step, the rest of that run is computed.

    The state is (plan before the turn, plan after it, index of the last computed step).

    Args:
        interval: of computed steps.
        turn: the step b: a count, or a fraction (below 1) of the run, of 40 steps if its length is not known.
        early, late: names of the regions that run before the turn, and from it on.
    """

    interval: int
    turn: float = 0.5
    early: str = "front"
    late: str = "rear"
    probe: int = 0

    def init(self, run: Run) -> Any:
        plans = []
        for name in (self.early, self.late):
            plan = {r.id: Action.COMPUTE if r.id.startswith(name) else Action.FILL for r in run.regions}
            plans.append(plan or None)
        return *plans, None

    def decide(self, state: Any, step: Step, seen: Seen) -> tuple[Decision, Any]:
        before, after, computed_at = state
        if computed_at is None or step.index - computed_at >= self.interval:
            return Decision(Action.COMPUTE, f"every {self.interval}"), state
        turn = self.turn if self.turn >= 1 else round(self.turn * (step.total or ASSUMED_STEPS))
        plan, name = (before, self.early) if step.index < turn else (after, self.late)
        action = Action.FILL if plan is None else Action.COMPUTE
        return Decision(action, f"{name} computed" if plan else f"every {self.interval}", plan=plan), state

    def record(self, state: Any, step: Step, decision: Decision, seen: Seen) -> Any:
        return state if decision.fills else (*state[:2], step.index)
