"""SyncCache's spatially-asymmetric probe: how much the first blocks' output changed, where it matters more."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from ..core.types import Seen, Watch


@dataclass(frozen=True)
class Probe:
    """``e = sum_s w_s |p - p_before| / sum_s w_s |p_before|`` over video tokens, ``w = 1 + (omega - 1) mask``.

    Paper: SyncCache, arXiv 2606.30849 (a reconstruction: the weights stand in numerator and denominator, so that a
    mask which is 1 everywhere changes nothing). ``p_before`` is the step before, skipped or not.

    Args:
        omega: weight of a person's token against one of the background; 1 is uniform probing.
        blocks: how many blocks run before it looks.
    """

    omega: float = 2.0
    blocks: int = 1
    ratios = 1
    watches = MappingProxyType({"probe": Watch(before=True)})

    def measure(self, seen: Seen) -> Tensor | None:
        """[B, 2] float32, numerator and denominator per sample, of a probe [B, V, D] and a mask [B or 1, V]."""
        tap = seen.tap("probe")
        if tap.now is None or tap.before is None:
            return None
        now, before = tap.now.detach().float(), tap.before.float()
        if now.ndim < 3:
            now, before = now.reshape(1, 1, -1), before.reshape(1, 1, -1)
        change = (now - before).abs_().flatten(2).sum(-1)
        size = before.abs().flatten(2).sum(-1)
        if seen.mask is not None and self.omega != 1 and seen.mask.shape[-1] == change.shape[-1]:
            weight = 1 + (self.omega - 1) * seen.mask
            change, size = change * weight, size * weight
        return torch.stack([change.sum(-1), size.sum(-1)], dim=-1)
