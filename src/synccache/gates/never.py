"""Compute every step: the control that must equal the untouched model, and the way to profile one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ..engine.types import Action, Decision, Seen, Step, Watch
from .probe import Probe
from .scheduled import Scheduled


@dataclass(frozen=True)
class Never(Scheduled):
    """Never skips. With ``measure_with`` it still measures the error that a probe would see, for profiles."""

    measure_with: Probe | None = None
    skips = False

    @property
    def probe(self) -> int:
        return self.measure_with.blocks if self.measure_with else 0

    @property
    def watches(self) -> Mapping[str, Watch]:
        return self.measure_with.watches if self.measure_with else {}

    def measure(self, seen: Seen) -> Tensor | None:
        return self.measure_with.measure(seen) if self.measure_with else None

    def decide(self, state: None, step: Step, seen: Seen) -> tuple[Decision, None]:
        return Decision(Action.COMPUTE, "never skips", seen.error), None
