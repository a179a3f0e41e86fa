"""The one place where ranks speak to each other: the numbers that a decision rests on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def agree(sums: Tensor, group: Any) -> Tensor:
    """Add numerators and denominators [B, 2] over the ranks that share one sample.

    Args:
        group: a process group, or ``"world"`` for all ranks. With None this rank decides alone, since independent
            data-parallel requests must never be mixed.
    """
    if group is None:
        return sums
    total = sums.clone()
    torch.distributed.all_reduce(total, group=None if group == "world" else group)
    return total


def several_processes() -> bool:
    begun = torch.distributed.is_available() and torch.distributed.is_initialized()
    return begun and torch.distributed.get_world_size() > 1


def group_for(call: Any) -> Any:
    """The process group that the decision of ``call`` is agreed on in; None: this rank decides alone."""
    if not several_processes():
        return None
    engine, told = call.engine, call.expert.structure.anatomy.group
    group = told() if engine.group is None and told is not None else engine.group
    return group_of(call.expert.model) if group is None else group


def group_of(model: nn.Module) -> Any:
    """The process group whose ranks work on one sample of ``model`` together; ``"world"``; None where it tells of none.

    Ranks that talk to each other inside the blocks would wait for ever if one of them left a block out alone. diffusers
    records such ranks on the model (``enable_parallelism``): for context parallelism, where each rank has a share of
    the tokens, as the flattened mesh of ring times Ulysses; for tensor parallelism, where each has all tokens, as its
    mesh (every rank then counts the same sums, which leaves their quotient as it is). The released Wan2.2-S2V sets
    ``use_context_parallel`` and shares a sample between all ranks. Data-parallel ranks have no such group.
    """
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
