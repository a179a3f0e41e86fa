"""How far the first blocks' residual is from that of the last computed step: what first-block caches measure."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor

from ..core.types import Seen, Watch
from .change import change


@dataclass(frozen=True)
class Residual:
    """``e = mean|q - q_c| / mean|q_c|`` over video tokens.

    q is what the first ``blocks`` blocks add on this step, q_c what they added on the last computed one.
    """

    blocks: int = 1
    ratios = 1
    watches = MappingProxyType({"residual": Watch(computed=1)})

    def measure(self, seen: Seen) -> Tensor | None:
        """[B, 2]: how far the residual [B, V, D] is from that of the last computed step, and how large that was."""
        tap = seen.tap("residual")
        return None if tap.now is None or not tap.computed else change(tap.now, tap.computed[0])
