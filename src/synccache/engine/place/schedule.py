"""A scheduler's timesteps as evidence of where a call stands, for as long as they are the ones that arrive."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

# The transformer may get the scheduler's timesteps scaled to 0..1, or counted from the other end.
_SCALES = (lambda t: t, lambda t: t / 1000, lambda t: 1 - t / 1000, lambda t: 1 - t)


@dataclass(frozen=True)
class Time:
    """The timesteps that one call carries: highest, mean and lowest of them; ``rounding``: of their dtype, relative."""

    high: float
    mean: float
    low: float
    rounding: float = field(default=0.0, compare=False)

    def after(self, other: Time) -> int:
        """1 where it is higher than ``other``, -1 where lower, 0 where neither; rows that never move don't count."""
        difference = self.high - other.high or self.mean - other.mean or self.low - other.low
        return (difference > 0) - (difference < 0)


UNKNOWN = Time(math.nan, math.nan, math.nan)  # while the numbers are on the device


class Schedule:
    """The timesteps of a scheduler.

    Args:
        timesteps: in the order in which they are sampled.
        order: calls of the model a step; with 2 a repeated timestep (Heun) is another evaluation of its step.
    """

    def __init__(self, timesteps: list[float], order: int = 1) -> None:
        self.timesteps = timesteps
        self.evaluates = [order > 1 and i > 0 and t == timesteps[i - 1] for i, t in enumerate(timesteps)]

    def start(self, time: Time) -> Entry | None:
        """Where a run stands that begins at ``time``: at or near the schedule's start."""
        found = []
        for scale in _SCALES:
            for high in (True, False) if time.high != time.low else (True,):
                entries = [Entry(self, index, scale, high) for index in range(len(self.timesteps))]
                nearest = min(entries, key=lambda entry: entry.distance(time), default=None)
                if nearest is not None and nearest.is_at(time):
                    found.append(nearest)
        return min(found, key=lambda entry: entry.index, default=None)

    def length(self, entry: Entry) -> int:
        """Number of steps of a run that begins at ``entry``."""
        return sum(not twice for twice in self.evaluates[entry.index :])


@dataclass(frozen=True)
class Entry:
    """A run's place in a schedule: an index into its timesteps, how these are scaled, and whether a call's highest or
    lowest timestep is the one that counts."""

    schedule: Schedule
    index: int
    scale: Callable[[float], float]
    high: bool

    def distance(self, time: Time) -> float:
        return abs(self.scale(self.schedule.timesteps[self.index]) - (time.high if self.high else time.low))

    def is_at(self, time: Time) -> bool:
        """Whether it is ``time`` that its timestep says, but for rounding."""
        ends = (self.schedule.timesteps[0], self.schedule.timesteps[-1])
        tolerance = min(1e-3 * max(abs(self.scale(end)) for end in ends), 0.5)
        return self.distance(time) <= max(tolerance, time.rounding * abs(time.high if self.high else time.low))

    def next(self, time: Time) -> Entry | None:
        """The entry after this one, if that is what ``time`` says; None otherwise."""
        following = replace(self, index=self.index + 1)
        return following if following.index < len(self.schedule.timesteps) and following.is_at(time) else None

    @property
    def evaluates(self) -> bool:
        """Whether it is a second evaluation of the step before it."""
        return self.schedule.evaluates[self.index]


def timesteps_of(pipeline: Any) -> Any:
    """The timesteps of a pipeline's scheduler: another object when it was set anew. None where nobody has set any."""
    scheduler = getattr(pipeline, "scheduler", None)
    timesteps = getattr(scheduler, "timesteps", None)
    trained = getattr(getattr(scheduler, "config", None), "num_train_timesteps", None)
    as_made = 0 if trained is None or timesteps is None or len(timesteps) != trained else None
    return None if getattr(scheduler, "num_inference_steps", as_made) is None else timesteps


def schedule_of(pipeline: Any, timesteps: Any) -> Schedule | None:
    """``timesteps``, which are those of the pipeline's scheduler, as a schedule."""
    if timesteps is None:
        return None
    values = timesteps.tolist() if hasattr(timesteps, "tolist") else timesteps
    return Schedule([float(t) for t in values], getattr(pipeline.scheduler, "order", 1)) if len(values) else None
