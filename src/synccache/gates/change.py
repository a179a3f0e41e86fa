"""By how much a tensor has changed: what most gates that look at the model measure."""

from __future__ import annotations

import torch
from torch import Tensor


def change(now: Tensor, before: Tensor) -> Tensor:
    """[B, 2] float32, ``sum |now - before|`` and ``sum |before|`` of each sample, of two tensors [B, ...].

    Their quotient is the relative L1 change ``mean |now - before| / mean |before|``; apart, they can be summed over
    ranks that share a sample.
    """
    now, before = now.detach().float(), before.float()
    if now.ndim < 2:
        now, before = now.reshape(1, -1), before.reshape(1, -1)
    sums = [(now - before).abs_().flatten(1).sum(-1), before.abs().flatten(1).sum(-1)]
    return torch.stack(sums, dim=-1)
