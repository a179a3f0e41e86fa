"""First-block cache: compute when the first blocks' residual is no longer that of the last computed step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor

from ..engine.types import Action, Decision, Run, Seen, Step, Watch
from .change import change

_WATCHES = MappingProxyType({"residual": Watch(computed=1)})


@dataclass(frozen=True)
class FirstBlock:
    """``e = mean|q - q_c| / mean|q_c|`` over video tokens; over ``threshold`` the step is computed.

    q is what the first ``blocks`` blocks add on this step, q_c what they added on the last computed one. Errors are not
    added up: the distance to what is reused is measured itself, so skips in a row need no sum. There is no state.

    Papers: First-Block Cache (ParaAttention, 2024; diffusers), with more blocks DBCache (cache-dit, 2025).
    """

    threshold: float
    blocks: int = 1
    skips = True

    @property
    def probe(self) -> int:
        return self.blocks

    @property
    def watches(self) -> Mapping[str, Watch]:
        return _WATCHES

    def init(self, run: Run) -> None:
        return None

    def measure(self, seen: Seen) -> Tensor | None:
        """[B, 2]: how far the residual [B, V, D] is from that of the last computed step, and how large that was."""
        tap = seen.tap("residual")
        return None if tap.now is None or not tap.computed else change(tap.now, tap.computed[0])

    def decide(self, state: None, step: Step, seen: Seen) -> tuple[Decision, None]:
        error = seen.error
        if error is None:
            return Decision(Action.COMPUTE, "nothing to compare with"), None
        if not math.isfinite(error):
            return Decision(Action.COMPUTE, "error not finite", error), None
        return Decision(Action.COMPUTE if error > self.threshold else Action.FILL, "error", error), None

    def record(self, state: None, step: Step, decision: Decision, seen: Seen) -> None:
        return None
