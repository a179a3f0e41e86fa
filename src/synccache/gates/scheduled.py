"""What gates have in common that look at nothing but the step's number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..engine.types import Decision, Run, Seen, Step, Watch


class Scheduled:
    """Watches nothing, measures nothing and remembers nothing; ``decide`` is left to say."""

    skips = True

    @property
    def watches(self) -> Mapping[str, Watch]:
        return {}

    def init(self, run: Run) -> Any:
        return None

    def measure(self, seen: Seen) -> Tensor | None:
        return None

    def record(self, state: Any, step: Step, decision: Decision, seen: Seen) -> Any:
        return state
