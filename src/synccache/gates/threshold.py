"""Compute when the errors summed since the last computed step exceed a threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from ..engine.types import Action, Decision, Run, Seen, Step, Watch
from .probe import Probe


class Measure(Protocol):
    """What a threshold adds up: the first ratio of what ``measure`` gives of the tensors that it ``watches``."""

    @property
    def blocks(self) -> int:
        """How many blocks run before it looks."""

    @property
    def watches(self) -> Mapping[str, Watch]: ...

    def measure(self, seen: Seen) -> Tensor | None: ...


@dataclass(frozen=True)
class Threshold:
    """Adds up the measured errors; over ``threshold`` the step is computed and the sum starts again from 0.

    A step without an error (nothing to compare with) or with one that isn't finite is computed. The state is the sum.
    """

    threshold: float
    measure_with: Measure = field(default_factory=Probe)
    skips = True

    @property
    def probe(self) -> int:
        return self.measure_with.blocks

    @property
    def watches(self) -> Mapping[str, Watch]:
        return self.measure_with.watches

    @property
    def measures(self) -> int:
        return getattr(self.measure_with, "measures", 1)

    def init(self, run: Run) -> float:
        return 0.0

    def measure(self, seen: Seen) -> Tensor | None:
        return self.measure_with.measure(seen)

    def decide(self, state: float, step: Step, seen: Seen) -> tuple[Decision, float]:
        error = seen.error
        if error is None:
            return Decision(Action.COMPUTE, "nothing to compare with"), state
        if not math.isfinite(error):
            return Decision(Action.COMPUTE, "error not finite", error), state
        total = state + error
        if total > self.threshold:
            return Decision(Action.COMPUTE, "error", error, total), total
        return Decision(Action.FILL, "error", error, total), total

    def record(self, state: float, step: Step, decision: Decision, seen: Seen) -> float:
        return state if decision.fills else 0.0
