"""What gates have in common that look at nothing but the step's number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import Tensor

from ..core.types import Decision, Measure, Run, Seen, Step, Watch


@dataclass(frozen=True)
class Blind:
    """Looks at nothing.

    Args:
        blocks: how many blocks always run; 0 lets the gate decide before the model runs.
    """

    blocks: int = 0
    ratios = 0

    @property
    def watches(self) -> Mapping[str, Watch]:
        return MappingProxyType({})

    def measure(self, seen: Seen) -> Tensor | None:
        return None


class Scheduled:
    """Looks at nothing and remembers nothing; a subclass writes ``decide``.

    ``probe`` is the number of first blocks that always run, for scopes that begin behind a probe.
    """

    probe: int = 0
    skips = True

    @property
    def measure(self) -> Measure:
        return Blind(self.probe)

    def init(self, run: Run) -> Any:
        return None

    def record(self, state: Any, step: Step, decision: Decision, seen: Seen) -> Any:
        return state
