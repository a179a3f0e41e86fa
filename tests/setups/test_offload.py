"""Offloading: the weights of a skipped block aren't moved, and a block that runs has its own."""

from dataclasses import replace

import accelerate
import pytest
import torch
from diffusers.hooks import HookRegistry, group_offloading
from tiny import COMPUTED, LIVE, STEPS, cached, count_calls, denoise, tiny_wan

import synccache
from synccache import anatomies


def offload(model, folder, kind: str, per_group: int = 1) -> None:
    """Group offloading from the CPU to files, so that it is the same on a machine without an accelerator."""
    sizes = {"num_blocks_per_group": per_group} if kind == "block_level" else {}
    model.enable_group_offload(
        onload_device=torch.device("cpu"), offload_type=kind, offload_to_disk_path=str(folder), **sizes
    )


def watch(module) -> list[int]:
    """How often the group of ``module`` was loaded; weights that are away hold not-a-number from now on."""
    group, loads = module._diffusers_hook.get_hook("group_offloading").group, [0]
    if hasattr(group, "loads"):
        return group.loads
    group.loads = loads
    load, away = group.onload_, group.offload_

    def onload() -> None:
        loads[0] += 1
        load()

    def offloaded() -> None:
        away()
        for tensor in group.tensor_to_key:
            tensor.data.fill_(torch.nan)

    group.onload_, group.offload_ = onload, offloaded
    for tensor in group.tensor_to_key:
        tensor.data.fill_(torch.nan)
    return loads


def leaf(block):
    return block.ffn.net[2]


CASES = [("block_level", 1, LIVE), ("block_level", 2, [STEPS, STEPS, 3, 3, 3]), ("leaf_level", 0, LIVE)]


@pytest.mark.parametrize("first", ["cache", "offloading"])
@pytest.mark.parametrize(("kind", "per_group", "loaded"), CASES)
def test_group_offloading(kind, per_group, loaded, first, tmp_path):
    reference, model = tiny_wan(), tiny_wan()
    plain = denoise(reference)
    with cached(reference):
        expected = denoise(reference)
    if first == "offloading":
        offload(model, tmp_path, kind, per_group)
    with cached(model) as handle:
        if first == "cache":
            offload(model, tmp_path, kind, per_group)
        loads = [watch(b if kind == "block_level" else leaf(b)) for b in model.blocks]
        out = denoise(model)
        torch.testing.assert_close(out, expected)
        assert handle.trace.computed() == len(COMPUTED)
        assert [n for (n,) in loads] == loaded
        registries = [m._diffusers_hook for m in model.modules() if hasattr(m, "_diffusers_hook")]
    torch.testing.assert_close(denoise(model), plain)
    assert registries == [m._diffusers_hook for m in model.modules() if hasattr(m, "_diffusers_hook")]
    assert all("group_offloading" in r.hooks for r in registries if r.hooks)


def test_at_most_one_group_is_fetched_ahead(tmp_path):
    """With streams diffusers has each group fetch the next one. The same chain, built here without a stream."""
    reference, model = tiny_wan(), tiny_wan()
    with cached(reference):
        expected = denoise(reference)
    offload(model, tmp_path, "block_level")
    chain = group_offloading.LazyPrefetchGroupOffloadingHook()
    HookRegistry.check_if_exists_or_initialize(model).register_hook(chain, "lazy_prefetch_group_offloading")
    with cached(model) as handle:
        loads, skipped = [watch(b) for b in model.blocks], []

        def note(record) -> None:
            if record.decision == "skipped":
                skipped.append([n - m for (n,), m in zip(loads, note.before, strict=True)])
            note.before = [n for (n,) in loads]

        note.before = [0] * 5
        handle.on_step = note
        torch.testing.assert_close(denoise(model), expected)
    assert model.blocks[0]._diffusers_hook.get_hook("group_offloading").next_group is not None
    assert len(skipped) == STEPS - len(COMPUTED) and all(n[1] <= 1 and n[2:] == [0, 0, 0] for n in skipped)


def test_a_live_block_of_a_group_that_begins_with_a_skipped_one(tmp_path):
    """Blocks 2 and 3 are one group, which diffusers loads when block 2 is called."""
    reference, model = tiny_wan(), tiny_wan()
    with cached(reference, anatomy=replace(anatomies.find(reference), fixed=(3,))):
        expected = denoise(reference)
    offload(model, tmp_path, "block_level", 2)
    for block in model.blocks:
        watch(block)
    with cached(model, anatomy=replace(anatomies.find(model), fixed=(3,))):
        torch.testing.assert_close(denoise(model), expected)


@pytest.mark.parametrize("first", ["cache", "offloading"])
def test_sequential_offloading(first):
    """accelerate's: weights are away on the meta device, and come for the layer that runs."""
    model = tiny_wan()
    plain = denoise(model)
    with cached(model):
        expected = denoise(model)
    if first == "offloading":
        accelerate.cpu_offload(model, torch.device("cpu"))
    with cached(model):
        if first == "cache":
            accelerate.cpu_offload(model, torch.device("cpu"))
        counts = count_calls(leaf(b) for b in model.blocks)
        assert torch.equal(denoise(model), expected)
        assert counts == LIVE
        assert all(p.is_meta for b in model.blocks for p in b.parameters())
    assert torch.equal(denoise(model), plain)
    assert all(hasattr(leaf(b), "_hf_hook") for b in model.blocks)
    accelerate.hooks.remove_hook_from_module(model, recurse=True)
    assert torch.equal(denoise(model), plain)


@pytest.mark.parametrize("first", ["cache", "offloading"])
def test_model_offloading(first):
    """accelerate's, as diffusers' ``enable_model_cpu_offload`` uses it: the model comes as a whole, once a run."""
    model = tiny_wan()
    with cached(model):
        expected = denoise(model)
    hook = accelerate.cpu_offload_with_hook(model, torch.device("cpu"))[1] if first == "offloading" else None
    with synccache.cached(model, "interval", steps=STEPS):  # comes and goes
        denoise(model)
    with cached(model):
        if hook is None:
            hook = accelerate.cpu_offload_with_hook(model, torch.device("cpu"))[1]
        counts = count_calls(model.blocks)
        assert torch.equal(denoise(model), expected)
        hook.offload()
        assert torch.equal(denoise(model), expected)
        assert counts == [2 * n for n in LIVE]
    assert model._hf_hook is hook.hook
    hook.remove()
    assert "_hf_hook" not in vars(model)
