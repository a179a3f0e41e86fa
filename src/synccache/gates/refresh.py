"""Compute the steps on a list that was made for a run of another length."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.types import Action, Decision, Run, Seen, Step
from .scheduled import Scheduled


@dataclass(frozen=True)
class Refresh(Scheduled):
    """Computes step ``round(s T / of)`` of a run of T steps for each s on the list, and no other.

    Paper: ProfilingDiT, ICCV 2025, whose lists are for 50 steps, with gaps that shrink towards the end. In a run whose
    length nobody tells, the list is taken as it is. The state is the set of steps to compute.

    Args:
        steps: indices in a run of ``of`` steps.
        of: that run's length.
    """

    steps: tuple[int, ...]
    of: int = 50
    probe: int = 0
    needs_length = True

    def init(self, run: Run) -> frozenset[int]:
        return frozenset(round(s * (run.total or self.of) / self.of) for s in self.steps)

    def decide(self, state: frozenset[int], step: Step, seen: Seen) -> tuple[Decision, frozenset[int]]:
        return Decision(Action.COMPUTE if step.index in state else Action.FILL, "refresh"), state
