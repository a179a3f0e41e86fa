"""The node beside other nodes: caches, compilers, and what it cannot work on."""

import pytest
import torch
from comfy_models import WanAnimate2Model, WanModel
from comfy_runs import patcher_of, sample, trace_of
from torch import nn

import synccache


def easycache(patcher):
    patcher.add_wrapper_with_key("diffusion_model", "easycache", lambda executor, *a, **k: executor(*a, **k))


def teacache(patcher):
    def apply_teacache():
        return lambda apply_model, args: apply_model(args["input"], args["timestep"], **args["c"])

    patcher.model_options["model_function_wrapper"] = apply_teacache()


def magcache(patcher):
    patcher.model_options["transformer_options"]["magcache_thresh"] = 0.1


@pytest.mark.parametrize("other", [easycache, teacache, magcache])
def test_refuses_another_cache_before_it_and_after_it(node, other):
    first = patcher_of(WanModel)
    cached = node(first)
    for patcher, use in ((first, node), (cached, sample)):
        other(patcher)
        with pytest.raises(synccache.Conflict, match="Another cache is on this model"):
            use(patcher)
    assert not hasattr(type(first.model.diffusion_model), "_synccache_base")


def test_a_second_node_replaces_the_first(node):
    twice = node(node(patcher_of(WanModel)), method="none")
    assert [len(keys["synccache"]) for keys in twice.wrappers.values()] == [1, 1]
    sample(twice)
    assert trace_of(twice).skipped() == 0


def compile_block(patcher, name="diffusion_model.blocks.1"):
    """What compile nodes do: compiled modules take the others' place within each call."""
    compiled = torch.compile(patcher.get_model_object(name), backend="eager")

    def swap(executor, *args, **kwargs):
        original = executor.class_obj.get_submodule(name)
        executor.class_obj.set_submodule(name, compiled)
        try:
            return executor(*args, **kwargs)
        finally:
            executor.class_obj.set_submodule(name, original)

    clone = patcher.clone()
    clone.add_wrapper_with_key("apply_model", "torch.compile", swap)
    return clone


def test_compiled_blocks_are_left_out_too(node):
    patcher = patcher_of(WanModel)
    plain = sample(node(patcher))
    cached = node(compile_block(patcher))
    torch.testing.assert_close(sample(cached), plain)
    assert trace_of(cached).skipped() > 5


def test_a_compile_node_comes_first_and_compiles_blocks_only(node):
    patcher = patcher_of(WanModel)
    with pytest.raises(synccache.Conflict, match="SyncCache after it"):
        sample(compile_block(node(patcher)))
    with pytest.raises(synccache.Conflict, match="compiled as a whole"):
        sample(node(compile_block(patcher, "diffusion_model")))
    patcher.object_patches["diffusion_model"] = torch.compile(patcher.model.diffusion_model, backend="eager")
    with pytest.raises(synccache.Conflict, match="compiled as a whole"):
        node(patcher)


class Nothing(nn.Module):
    def forward(self, x, timestep):
        return x


@pytest.mark.parametrize("cls", [Nothing, WanAnimate2Model])
def test_a_model_that_it_can_not_work_on_is_refused_at_once(node, cls):
    with pytest.raises(synccache.UnsupportedModel):
        node(patcher_of(cls))


def test_settings_that_can_not_be_used_are_refused_at_once(node):
    with pytest.raises(synccache.InputError, match="has no computed_steps"):
        node(patcher_of(WanModel), method="interval", computed_steps=12)
    with pytest.raises(synccache.InputError, match="mask"):
        node(patcher_of(WanModel), mask=torch.full((1, 4, 4), 3.0))
