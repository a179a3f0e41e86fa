"""Compute a given number of steps: the threshold is found from recorded errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor

from ..engine.types import Action, Decision, Gate, Run, Seen, Step, Watch
from .replay import threshold_for, with_threshold


@dataclass(frozen=True)
class Budget:
    """Finds the threshold inside ``gate`` at which ``computed_steps`` of the recorded steps are computed.

    Args:
        gate: with a ``Threshold`` inside.
        computed_steps: how many steps of a run to compute.
        errors: recorded errors, say of a plan; None: the first run is computed fully and recorded for the next ones.

    The state is (gate with its threshold, its state), or None in the recording run.
    """

    gate: Gate
    computed_steps: int
    errors: tuple[float | None, ...] | None = None

    @property
    def probe(self) -> int:
        return self.gate.probe

    @property
    def watches(self) -> Mapping[str, Watch]:
        return self.gate.watches

    @property
    def skips(self) -> bool:
        return self.gate.skips

    @property
    def measures(self) -> int:
        return getattr(self.gate, "measures", 1)

    def init(self, run: Run) -> Any:
        errors = self.errors or run.errors
        if errors is None or len(errors) < 2 or (run.total is None and len(errors) <= self.computed_steps):
            return None
        errors = stretched(errors, run.total or len(errors))
        gate = with_threshold(self.gate, threshold_for(self.gate, errors, self.computed_steps))
        return gate, gate.init(run)

    def measure(self, seen: Seen) -> Tensor | None:
        return self.gate.measure(seen)

    def decide(self, state: Any, step: Step, seen: Seen) -> tuple[Decision, Any]:
        if state is None:
            return Decision(Action.COMPUTE, "recording", seen.error), None
        gate, inner = state
        decision, inner = gate.decide(inner, step, seen)
        return decision, (gate, inner)

    def record(self, state: Any, step: Step, decision: Decision, seen: Seen) -> Any:
        if state is None:
            return None
        gate, inner = state
        return gate, gate.record(inner, step, decision, seen)


def stretched(errors: Sequence[float | None], total: int) -> tuple[float | None, ...]:
    """Errors for a run of ``total`` steps from those of another length: the same path, walked in other strides."""
    if len(errors) == total or total < 2 or len(errors) < 2:
        return tuple(errors)
    path = [0.0]
    for e in errors[1:]:
        path.append(path[-1] + (e or 0.0))

    def at(u: float) -> float:
        place = u * (len(path) - 1)
        low = min(int(place), len(path) - 2)
        return path[low] + (place - low) * (path[low + 1] - path[low])

    points = [at(i / (total - 1)) for i in range(total)]
    return (None, *(b - a for a, b in pairwise(points)))
