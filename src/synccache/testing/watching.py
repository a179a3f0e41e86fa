"""A gate that shows what it is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core.types import Action, Decision, Run, Seen, Step, Watch


@dataclass(frozen=True)
class Look:
    """Calls ``show`` with what a gate may look at, and measures nothing.

    Args:
        show: called on every step that decides.
        blocks: how many blocks run before it looks.
        watches: which tensors are kept for it.
    """

    show: Callable[[Seen], Any] = lambda seen: None
    blocks: int = 1
    watches: Mapping[str, Watch] = field(default_factory=lambda: {"probe": Watch(before=True)})
    ratios = 1

    def measure(self, seen: Seen) -> None:
        self.show(seen)


@dataclass(frozen=True)
class Watching:
    """Computes the steps in ``schedule``, and has the probe kept and shown all the same."""

    schedule: frozenset[int]
    measure: Look = field(default_factory=Look)
    skips = True

    def init(self, run: Run) -> None:
        return None

    def decide(self, state: None, step: Step, seen: Seen) -> tuple[Decision, None]:
        return Decision(Action.COMPUTE if step.index in self.schedule else Action.FILL, "listed"), None

    def record(self, state: None, step: Step, decision: Decision, seen: Seen) -> None:
        return None
