"""First-block cache: compute when the first blocks' residual is no longer that of the last computed step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..core.types import Action, Decision, Run, Seen, Step
from .residual import Residual


@dataclass(frozen=True)
class FirstBlock:
    """Computes a step whose ``Residual`` of the first ``blocks`` blocks is over ``threshold``.

    Errors are not added up: ``Residual`` measures the distance to what is reused itself, so skips in a row need no sum.
    There is no state.

    Papers: First-Block Cache (ParaAttention, 2024; diffusers), with more blocks DBCache (cache-dit, 2025).
    """

    threshold: float
    blocks: int = 1
    skips = True

    @property
    def measure(self) -> Residual:
        return Residual(self.blocks)

    def init(self, run: Run) -> None:
        return None

    def decide(self, state: None, step: Step, seen: Seen) -> tuple[Decision, None]:
        error = seen.error
        if error is None:
            return Decision(Action.COMPUTE, "nothing to compare with"), None
        if not math.isfinite(error):
            return Decision(Action.COMPUTE, "error not finite", error), None
        return Decision(Action.COMPUTE if error > self.threshold else Action.FILL, "error", error), None

    def record(self, state: None, step: Step, decision: Decision, seen: Seen) -> None:
        return None
