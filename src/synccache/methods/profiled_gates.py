"""Gates that go by a profile of one schedule, and refuse runs on another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..core.types import Decision, Run, Seen, Step
from ..gates import Listed, Magnitudes, Never
from ..gates.magnitude import State
from .remedy import ProfileNeeded


def check_timestep(step: Step, timesteps: Sequence[float], method: str) -> None:
    """Refuse a step whose timestep isn't that of the profiled run; half precision may round both.

    Raises:
        ProfileNeeded: names both timesteps.
    """
    if step.evaluation or step.index >= len(timesteps):
        return
    known, tolerance = timesteps[step.index], max(map(abs, timesteps)) / 256
    if abs(step.timestep - known) > tolerance:
        raise ProfileNeeded(
            f"The profile is for runs whose step {step.index} has the timestep {known:g}; this run's has "
            f"{step.timestep:g}. Set the scheduler (its shift, for one) as it was, or profile it as it is now.",
            method,
        )


@dataclass(frozen=True)
class MagnitudesFor(Magnitudes):
    """Ratios learnt on these ``timesteps``. A run of as many steps must have the same timesteps; a run of another
    length takes the nearest ratios."""

    timesteps: tuple[float, ...] = ()

    def decide(self, state: State, step: Step, seen: Seen) -> tuple[Decision, State]:
        if step.total in (None, len(self.timesteps)):
            check_timestep(step, self.timesteps, "magcache")
        return super().decide(state, step, seen)


@dataclass(frozen=True)
class NeverFor(Never):
    """Computes every step of a run that has these timesteps, and refuses a step that has another one."""

    method: str = ""
    timesteps: tuple[float, ...] = ()

    def decide(self, state: None, step: Step, seen: Seen) -> tuple[Decision, None]:
        check_timestep(step, self.timesteps, self.method)
        return super().decide(state, step, seen)


@dataclass(frozen=True)
class ListedFor(Listed):
    """A list of steps that was learnt for runs of ``steps`` steps with these ``timesteps`` (empty: unknown).

    A run of another length is refused as it starts, a step with another timestep as it comes.
    """

    steps: int = 0
    method: str = ""
    timesteps: tuple[float, ...] = ()

    def decide(self, state: None, step: Step, seen: Seen) -> tuple[Decision, None]:
        check_timestep(step, self.timesteps, self.method)
        return super().decide(state, step, seen)

    def init(self, run: Run) -> None:
        if run.total != self.steps:
            found = "nobody tells how long this run is" if run.total is None else f"this run has {run.total}"
            raise ProfileNeeded(
                f"The profile is for runs of {self.steps} steps, and {found}. Use as many steps (steps= tells, where "
                "no scheduler does), or profile a run of this length.",
                self.method,
            )
        super().init(run)
