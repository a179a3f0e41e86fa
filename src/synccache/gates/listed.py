"""Compute the steps on a list."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.types import Action, Decision, Run, Seen, Step
from ..errors import InputError
from .scheduled import Scheduled


@dataclass(frozen=True)
class Listed(Scheduled):
    """Computes the steps whose index is in ``schedule``, and no other (the first step of a run is always computed).

    Raises:
        InputError: as a run starts that is known to be too short for the list.
    """

    schedule: frozenset[int]
    probe: int = 0

    def init(self, run: Run) -> None:
        last = max(self.schedule, default=0)
        if run.total is not None and last >= run.total:
            raise InputError(
                f"The list of steps to compute goes to {last}, and this run's {run.total} steps go to {run.total - 1}. "
                "Shorten the list, or ask for more steps."
            )

    def decide(self, state: None, step: Step, seen: Seen) -> tuple[Decision, None]:
        return Decision(Action.COMPUTE if step.index in self.schedule else Action.FILL, "listed"), None
