"""TeaCache's error: how much the time embedding has changed, as a polynomial says that it shows in the output."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from ..core.types import Seen, Watch
from .change import change


@dataclass(frozen=True)
class Signal:
    """``e = p(mean|s - s_before| / mean|s_before|)``, s the signal that the first block is called with.

    s is the time embedding as the blocks receive it, or what the anatomy names. The polynomial maps its change onto
    the output's; it is fitted per model and per kind of signal, and may fall below 0.

    Paper: TeaCache, arXiv 2411.19108, CVPR 2025.

    Args:
        coefficients: of p, highest power first; (1, 0) takes the change as it is.
    """

    coefficients: tuple[float, ...] = (1.0, 0.0)
    blocks = 0
    ratios = 1
    watches = MappingProxyType({"signal": Watch(before=True)})

    def measure(self, seen: Seen) -> Tensor | None:
        """[B, 2] float32: ``p(n / d) d`` and d, of the change ``n / d`` of a signal [B, ...]; over ranks, p's mean."""
        tap = seen.tap("signal")
        if tap.now is None or tap.before is None:
            return None
        moved, size = change(tap.now, tap.before).unbind(-1)
        error = torch.zeros_like(size)
        for coefficient in self.coefficients:
            error = error * (moved / size) + coefficient
        return torch.stack([error * size, size], dim=-1)
