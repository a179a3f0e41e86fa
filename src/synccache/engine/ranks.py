"""The one place where ranks speak to each other: the numbers that a decision rests on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def agree(sums: Tensor, group: Any = None) -> Tensor:
    """Add numerators and denominators [B, 2] over the ranks that share one sample.

    Args:
        group: the model's own parallel group (sequence or context parallel). None: this rank decides alone, since
            independent data-parallel requests must never be mixed; ``"world"``: all ranks.
    """
    if group is None or not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return sums
    total = sums.clone()
    torch.distributed.all_reduce(total, group=None if group == "world" else group)
    return total
