"""Δ-DiT's rule: one end of the stack is left out in the first part of a run, the other end in the second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core.types import Action, Decision, Run, Seen, Step
from .scheduled import Scheduled
from .warmup import ASSUMED_STEPS


@dataclass(frozen=True)
class Turn(Scheduled):
    """Computes every n-th step. Of the other steps, those before step b run the ``early`` regions, the rest the
    ``late`` ones.

    Paper: Δ-DiT, arXiv 2406.01125: the front blocks draw outlines, which early steps need, the rear ones details. A
    region has a name if its id begins with it. Regions with neither name are filled in on every step that isn't
    computed; so are all regions, if the scope has none of these names.

    The state is (each region's action before the turn, after it, index of the last computed step).

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

    @property
    def needs_length(self) -> bool:
        return self.turn < 1

    def init(self, run: Run) -> Any:
        found = []
        for name in (self.early, self.late):
            actions = {r.id: Action.COMPUTE if r.id.startswith(name) else Action.FILL for r in run.regions}
            found.append(actions or None)
        return *found, None

    def decide(self, state: Any, step: Step, seen: Seen) -> tuple[Decision, Any]:
        before, after, computed_at = state
        if computed_at is None or step.index - computed_at >= self.interval:
            return Decision(Action.COMPUTE, f"every {self.interval}"), state
        turn = self.turn if self.turn >= 1 else round(self.turn * (step.total or ASSUMED_STEPS))
        actions, name = (before, self.early) if step.index < turn else (after, self.late)
        action = Action.FILL if actions is None else Action.COMPUTE
        return Decision(action, f"{name} computed" if actions else f"every {self.interval}", actions=actions), state

    def record(self, state: Any, step: Step, decision: Decision, seen: Seen) -> Any:
        return state if decision.fills else (*state[:2], step.index)
