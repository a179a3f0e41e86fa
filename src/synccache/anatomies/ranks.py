"""Which ranks work on one sample together, as far as models tell."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def group_of(model: nn.Module) -> Any:
    """The process group whose ranks share a sample of ``model``; ``"world"`` for all; None where it tells of none.

    Ranks that talk to each other inside the blocks would wait for ever if one of them left a block out alone. diffusers
    records such ranks on the model (``enable_parallelism``): for context parallelism, where each rank has a share of
    the tokens, as the flattened mesh of ring times Ulysses; for tensor parallelism, where each has all tokens, as its
    mesh (every rank then counts the same sums, which leaves their quotient as it is). The released Wan2.2-S2V sets
    ``use_context_parallel`` and shares a sample between all ranks. Data-parallel ranks have no such group.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return None
    config = getattr(model, "_parallel_config", None)
    context = getattr(config, "context_parallel_config", None)
    tensor = getattr(config, "tensor_parallel_config", None)
    for mesh in (getattr(context, "_flattened_mesh", None), getattr(tensor, "_mesh", None)):
        if mesh is not None:
            return mesh.get_group()
    if getattr(model, "use_context_parallel", False) is True:
        size = getattr(model, "sp_size", None)
        return "world" if size in (None, torch.distributed.get_world_size()) else None
    return None
