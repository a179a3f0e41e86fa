"""DiCache's probe: how far the first blocks' output moved, and how far along the last anchors' path it is."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from ..core.types import Seen, Watch
from .change import change
from .probe import Probe


@dataclass(frozen=True)
class Trajectory(Probe):
    """Two ratios over video tokens: the ``Probe``'s error, and ``a = mean|q - q_1| / mean|q_0 - q_1|``.

    q is what the first ``blocks`` blocks add on this step, q_0 and q_1 what they added on the last two computed ones,
    newest first: a is 1 at the newest anchor and grows with the way gone since; 0 where two computed steps aren't there
    yet. With ``omega=1`` the error is DiCache's.

    Paper: DiCache, arXiv 2508.17356, ICLR 2026.
    """

    omega: float = 1.0
    ratios = 2
    watches = MappingProxyType({"probe": Watch(before=True), "residual": Watch(computed=2)})

    def measure(self, seen: Seen) -> Tensor | None:
        """[B, 4]: numerator and denominator of the error, then of a, per sample; None without an error."""
        error, tap = super().measure(seen), seen.tap("residual")
        if error is None:
            return None
        if tap.now is None or len(tap.computed) < 2:
            return torch.cat([error, torch.zeros_like(error)], dim=-1)
        newest, older = tap.computed
        ways = [change(value, older)[:, 0] for value in (tap.now, newest)]
        return torch.cat([error, torch.stack(ways, dim=-1)], dim=-1)
