"""What each of two processes does for ``test_ranks.py``; a module of its own, so that a fresh process can import it."""

import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from tiny import cached, denoise, tiny_wan  # noqa: E402

import synccache  # noqa: E402
from synccache.testing import AddModel  # noqa: E402

LAYERS = 3


def probing(threshold: float) -> synccache.Method:
    """Reuse where the probe's summed change stays under ``threshold``."""
    gate = synccache.gates.Threshold(threshold)
    return synccache.Method(gate, synccache.scopes.Segments(), synccache.forecasters.Reuse())


def adding(rank: int, group, threshold: float = 0.15, model=None) -> dict:
    """Four steps of an ``AddModel`` whose probe reads 10, 11, 12, 13 on rank 0 and 30, 36, 42, 48 on rank 1."""
    model, reductions = model or AddModel(), []
    known = synccache.Anatomy("add", tuple(model.blocks))
    begin, rise = ((10.0, 1.0), (30.0, 6.0))[rank]
    real = dist.all_reduce
    dist.all_reduce = lambda *a, **k: (reductions.append(1), real(*a, **k))[1]
    try:
        with torch.no_grad(), synccache.cached(model, probing(threshold), group=group, anatomy=known) as handle:
            for step in range(4):
                level = torch.tensor(begin + rise * step)
                model(torch.zeros(1, 2, 3), torch.tensor([1000.0 - step]), level)
    finally:
        dist.all_reduce = real
    return {**told(handle), "calls": [b.calls for b in model.blocks], "reductions": len(reductions)}


def told(handle) -> dict:
    return {"decisions": handle.trace.decisions(), "errors": [r.error for r in handle.trace.records]}


def sharing_tokens(threshold: float) -> dict:
    """Tiny Wan with its 32 tokens split over the ranks by diffusers' context parallelism, plain and cached."""
    from diffusers import ContextParallelConfig

    torch.accelerator.device_count = lambda: 1  # diffusers asks which accelerator is this rank's; here there is none
    model = tiny_wan(LAYERS)
    model.enable_parallelism(config=ContextParallelConfig(ulysses_degree=2))
    found = {"plain": denoise(model)}
    with cached(model, probe=0) as handle:
        found |= {"listed": denoise(model), "schedule": handle.trace.decisions()}
    with synccache.cached(model, probing(threshold)) as handle:
        return {**found, "cached": denoise(model), **told(handle)}


def own_sequence_parallelism(rank: int) -> dict:
    """The errors of models of which the flag of the released Wan2.2-S2V says whether all ranks share a sample."""
    flags = {"off": {"use_context_parallel": False}, "on": {"use_context_parallel": True}}
    flags["one each"], found = {"use_context_parallel": True, "sp_size": 1}, {}
    for name, given in flags.items():
        model = AddModel()
        vars(model).update(given)
        found[name] = adding(rank, None, model=model)["errors"]
    return found


def sharing_weights(rank: int) -> dict:
    """Each rank with a sample of its own, and the weights of the blocks shared out over both: called by one rank alone,
    a block would wait for the other one's share for ever."""
    mesh = dist.init_device_mesh("cpu", (2,))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Chain()
    for block in model.blocks:
        dist.fsdp.fully_shard(block, mesh=mesh)
    dist.fsdp.fully_shard(model, mesh=mesh)
    known = synccache.Anatomy("chain", tuple(model.blocks), latent="x", timestep="t")
    x = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(rank))
    with torch.no_grad(), synccache.cached(model, probing(0.05), anatomy=known, steps=8) as handle:
        for step in range(8):
            x = x - (0.01, 0.04)[rank] * model(x, torch.tensor([1000.0 - step]))
    return told(handle)


class Chain(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(torch.nn.Linear(8, 8) for _ in range(3))

    def forward(self, x, t):
        for block in self.blocks:
            x = block(x)
        return x


def work(rank: int, folder: str, threshold: float) -> None:
    """One rank's part; what it found is in ``folder``."""
    torch.set_num_threads(1)
    patience = timedelta(seconds=120)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=patience)
    try:
        alone = [dist.new_group([r]) for r in range(2)]
        found = {name: adding(rank, g) for name, g in (("none", None), ("world", "world"), ("own", alone[rank]))}
        found["flags"] = own_sequence_parallelism(rank)
        found["weights"] = sharing_weights(rank)
        found["tokens"] = sharing_tokens(threshold)
        torch.save(found, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()
