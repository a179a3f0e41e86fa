"""Which ranks work on one sample together, as far as models tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core.anatomy import Anatomy


def agree(sums: Tensor, group: Any) -> Tensor:
    """Add numbers, such as numerators and denominators [B, 2 n], over the ranks that share one sample.

    Args:
        group: their process group, or ``"world"`` for all ranks. With None this rank decides alone, since independent
            data-parallel requests must never be mixed.
    """
    if group is None:
        return sums
    total = sums.clone()
    torch.distributed.all_reduce(total, group=None if group == "world" else group)
    return total


def agreed_cost(cost: float | None, group: Any, ends: bool, device: torch.device) -> float | None:
    """What a skipped step costs, by the clocks of all ranks of ``group``.

    Each process has times of its own. Those that work on one sample take the same steps, so they agree on the cost,
    once at the end of a run; one that knows of no others keeps to the estimate, since it may have to do as they do.
    """
    if not are_there() or torch.distributed.get_world_size() == 1:
        return cost
    if not ends or group is None:
        return None
    summed, count = agree(torch.tensor([cost or 0.0, float(cost is not None)], device=device), group).tolist()
    return summed / count if count else None


def are_there() -> bool:
    """Whether this process may have others beside it."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def group_for(anatomy: Anatomy, model: nn.Module, told: Any = None) -> Any:
    """The process group whose ranks decide together: ``told``, or what anatomy or model tell; None: each alone."""
    if not are_there():
        return None
    if told is not None:
        return told
    group = None if anatomy.group is None else anatomy.group()
    group = group_of(model) if group is None else group
    return _group_of_shards(anatomy.blocks) if group is None else group


def _group_of_shards(blocks: Sequence[nn.Module]) -> Any:
    """The ranks over which FSDP has shared out the blocks' weights: all of them call a block, or none does, since its
    call gathers these."""
    block = blocks[-1] if blocks else None
    if block is not None and "_fsdp_wrapped_module" in block._modules:
        return getattr(block, "process_group", "world")
    sharded: Any = getattr(block, "_get_fsdp_state", None)
    state = None if sharded is None else sharded()
    mesh = getattr(getattr(state, "_fsdp_param_group", None), "mesh_info", None)
    return None if state is None else getattr(mesh, "shard_process_group", "world")


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
