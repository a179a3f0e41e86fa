"""What libraries do to a model that a cache is on: casting, offloading, sharding, compiling, other attention."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import accelerate
import torch
import torch.distributed as dist
from adapters import adapter_file
from diffusers.models.attention_processor import Attention
from diffusers.models.transformers.transformer_flux import FluxAttention, FluxAttnProcessor
from neighbours import Neighbour, all_of, kind, louder
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import CheckpointWrapper, checkpoint_wrapper
from torch.distributed.fsdp import FullyShardedDataParallel

BLOCKS = {"flux": ("transformer_blocks", "single_transformer_blocks"), "wan": ("blocks",)}
CPU = torch.device("cpu")


# -- weights in other places and types -----------------------------------------------------------------------------


def layerwise_casting(model: nn.Module) -> None:
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)


def group_offloading(kind: str, **more: int) -> Callable[[nn.Module], Callable[[], Any]]:
    def on(model: nn.Module) -> Callable[[], Any]:
        folder = tempfile.TemporaryDirectory()
        model.enable_group_offload(
            onload_device=CPU, offload_type=kind, offload_to_disk_path=folder.name, low_cpu_mem_usage=True, **more
        )

        def off() -> None:
            registries = [m._diffusers_hook for m in model.modules() if hasattr(m, "_diffusers_hook")]
            hooks = [r.get_hook("group_offloading") for r in registries]
            for group in {id(h.group): h.group for h in hooks if h is not None}.values():
                group.onload_()
            for registry in registries:
                registry.remove_hook("group_offloading", recurse=False)
            folder.cleanup()

        return off

    return on


def loaded_under_group_offloading(model: nn.Module) -> Callable[[], Any]:
    """diffusers takes its hooks off while it loads an adapter, and puts them on anew."""
    off = group_offloading("block_level", num_blocks_per_group=2)(model)
    model.load_lora_adapter(adapter_file(model, 9), adapter_name="style", prefix=None)
    return all_of([lambda: model.delete_adapters("style"), off])


def is_offloaded(model: nn.Module) -> bool:
    registries = [m._diffusers_hook for m in model.modules() if hasattr(m, "_diffusers_hook")]
    return any(r.get_hook("group_offloading") is not None for r in registries)


def sequential_offloading(model: nn.Module) -> Callable[[], Any]:
    accelerate.cpu_offload(model, CPU)
    return lambda: accelerate.hooks.remove_hook_from_module(model, recurse=True)


def model_offloading(model: nn.Module) -> Callable[[], Any]:
    return accelerate.cpu_offload_with_hook(model, CPU)[1].remove


@contextmanager
def one_rank() -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def sharded(model: nn.Module) -> None:
    mesh = dist.init_device_mesh("cpu", (1,))
    for name in BLOCKS[kind(model)]:
        for block in model.get_submodule(name):
            dist.fsdp.fully_shard(block, mesh=mesh)
    dist.fsdp.fully_shard(model, mesh=mesh)


def wrapped_by_fsdp(model: nn.Module) -> None:
    """The older kind, which puts a wrapper around each block."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "FSDP is switching to use `NO_SHARD`")  # with one rank
        wrap_blocks(model, lambda block: FullyShardedDataParallel(block, device_id=CPU, use_orig_params=True))


def checkpointed(model: nn.Module) -> None:
    wrap_blocks(model, checkpoint_wrapper)


def wrap_blocks(model: nn.Module, wrap: Callable[[nn.Module], nn.Module]) -> None:
    for name in BLOCKS[kind(model)]:
        blocks = model.get_submodule(name)
        for index, block in enumerate(blocks):
            blocks[index] = wrap(block)


def are_wrapped(model: nn.Module) -> bool:
    return all(isinstance(block, FullyShardedDataParallel | CheckpointWrapper) for block in model.transformer_blocks)


def is_sharded(model: nn.Module) -> bool:
    return all(isinstance(m, dist.fsdp.FSDPModule) for m in (model, *model.get_submodule(BLOCKS[kind(model)][0])))


OFFLOADS = [
    Neighbour("layerwise_casting", layerwise_casting, goes=False),
    Neighbour("group_offloading_blocks", group_offloading("block_level", num_blocks_per_group=2), shows=is_offloaded),
    Neighbour("group_offloading_leaves", group_offloading("leaf_level"), shows=is_offloaded),
    Neighbour("peft_loaded_under_group_offloading", loaded_under_group_offloading),
    Neighbour("sequential_offloading", sequential_offloading, shows=lambda m: next(m.parameters()).is_meta),
    Neighbour("model_offloading", model_offloading, shows=lambda m: hasattr(m, "_hf_hook")),
    Neighbour("fully_shard", sharded, shows=is_sharded, goes=False),
    Neighbour("fsdp_wrapper", wrapped_by_fsdp, shows=are_wrapped, goes=False, refuses=frozenset({"modules"})),
    Neighbour("checkpoint_wrapper", checkpointed, shows=are_wrapped, goes=False, refuses=frozenset({"modules"})),
    Neighbour("fully_shard", sharded, "wan", shows=is_sharded, goes=False),
]


# -- other code for the same modules -------------------------------------------------------------------------------


class Louder(FluxAttnProcessor):
    def __call__(self, attn: Any, *args: Any, **kwargs: Any) -> Any:
        return louder(super().__call__(attn, *args, **kwargs))


def attention_processors(model: nn.Module) -> Callable[[], Any]:
    before = model.attn_processors
    model.set_attn_processor(Louder())
    return lambda: model.set_attn_processor(before)


def fused_projections(model: nn.Module) -> Callable[[], Any]:
    model.fuse_qkv_projections()
    return model.unfuse_qkv_projections


def are_fused(model: nn.Module) -> bool:
    found = [m for m in model.modules() if isinstance(m, Attention | FluxAttention)]
    return bool(found) and all(m.fused_projections for m in found)


class Counting:
    """A compiler backend that runs a graph as it is, and counts how often."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, graph: Any, _: Any) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            self.runs += 1
            return graph.forward(*args)

        return run


BACKEND = Counting()


def uncompiled(modules: list[nn.Module]) -> Callable[[], Any]:
    return lambda: [setattr(m, "_compiled_call_impl", None) for m in modules]


def compiled_blocks(model: nn.Module) -> Callable[[], Any]:
    model.compile_repeated_blocks(backend=BACKEND)
    return uncompiled(list(model.blocks))


def compiled_attention(model: nn.Module) -> Callable[[], Any]:
    modules = [block.attn1 for block in model.blocks]
    for module in modules:
        module.compile(backend=BACKEND)
    return uncompiled(modules)


CODE = [
    Neighbour("attention_processors", attention_processors),
    Neighbour("fused_projections", fused_projections, shows=are_fused),
    Neighbour(
        "compiled_blocks", compiled_blocks, "wan", shows=lambda model: BACKEND.runs > 0, runs=lambda: BACKEND.runs,
        refuses=frozenset({"modules"}),
    ),
    Neighbour(
        "compiled_attention", compiled_attention, "wan", shows=lambda model: BACKEND.runs > 0,
        runs=lambda: BACKEND.runs,
    ),
]  # fmt: skip
LIBRARIES = (*OFFLOADS, *CODE)
__all__ = ["BACKEND", "LIBRARIES", "Attention", "one_rank"]
