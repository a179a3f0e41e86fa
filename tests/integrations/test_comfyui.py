"""The ComfyUI node on structural doubles of ComfyUI and its Wan models."""

import importlib.util
import logging
import sys
from pathlib import Path
from types import ModuleType

import comfy_doubles as comfy
import pytest
import torch
from comfy_doubles import BaseModel, Guider, Handler, Patcher
from comfy_models import AnimateWanModel, VaceWanModel, WanAnimate2Model, WanModel, WanModel_S2V
from torch import nn

import synccache
from synccache import anatomies

FOLDER = Path(__file__).parents[2] / "integrations" / "comfyui"
MODELS = (WanModel, WanModel_S2V, VaceWanModel, AnimateWanModel)
SIGMAS = torch.linspace(1, 0, 21)


@pytest.fixture
def pack(monkeypatch):
    """The folder, loaded as ComfyUI loads a custom node, beside a ``comfy`` package."""
    extension = ModuleType("comfy.patcher_extension")
    extension.WrappersMP = comfy.WrappersMP
    monkeypatch.setitem(sys.modules, "comfy", ModuleType("comfy"))
    monkeypatch.setitem(sys.modules, "comfy.patcher_extension", extension)
    name = str(FOLDER).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, FOLDER / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    yield module
    for loaded in [n for n in sys.modules if n.startswith(name + ".")]:
        del sys.modules[loaded]


@pytest.fixture
def node(pack):
    """The node with every input at its default: ``node(patcher, method=..., ...)`` gives the new patcher."""
    inputs = pack.NODE_CLASS_MAPPINGS["SyncCache"].INPUT_TYPES()["required"]
    defaults = {name: spec[1]["default"] for name, spec in inputs.items() if name != "model"}

    def apply(patcher, **given):
        (out,) = pack.NODE_CLASS_MAPPINGS["SyncCache"]().apply(model=patcher, **{**defaults, **given})
        return out

    return apply


def patcher_of(cls, **kwargs):
    return Patcher(BaseModel(cls(**kwargs)))


def inputs(cls, seed=0):
    """Positive and negative conditioning: text [1, 3, 12], and for S2V audio [1, 12] and a reference latent."""
    random = torch.Generator().manual_seed(seed)
    positive = {"context": torch.randn(1, 3, 12, generator=random)}
    negative = {"context": torch.randn(1, 3, 12, generator=random)}
    if cls is WanModel_S2V:
        reference = torch.randn(1, 4, 1, 4, 4, generator=random)
        audio = torch.randn(1, 12, generator=random)
        positive |= {"audio_embed": audio, "reference_latent": reference}
        negative |= {"audio_embed": 0 * audio, "reference_latent": reference}
    return positive, negative


def noise(frames=2, height=4, seed=1):
    return torch.randn(1, 4, frames, height, 4, generator=torch.Generator().manual_seed(seed))


def sample(patcher, latent=None, sigmas=SIGMAS, **guider):
    cls = type(patcher.model.diffusion_model)
    return Guider(patcher, *inputs(cls), **guider).sample(noise() if latent is None else latent, sigmas)


def trace_of(patcher):
    return patcher.wrappers["outer_sample"]["synccache"][0].__self__.trace


def classes(patcher):
    return [type(module) for module in patcher.model.modules()]


# -- the folder --------------------------------------------------------------------------------------------------


def test_offers_the_methods_that_can_work_here(pack):
    methods = pack.NODE_CLASS_MAPPINGS["SyncCache"].INPUT_TYPES()["required"]["method"][0]
    assert {"synccache", "none", "interval", "whole-stack"} <= set(methods) <= set(synccache.methods())
    assert not {"fewer-steps", "schedule", "synccache-cfg"} & set(methods)
    assert pack.NODE_DISPLAY_NAME_MAPPINGS.keys() == pack.NODE_CLASS_MAPPINGS.keys()


@pytest.mark.parametrize(
    ("cls", "name", "sites"),
    [
        (WanModel, "wan", None), (WanModel_S2V, "wan-s2v", (0, 2, 5)), (VaceWanModel, "wan-vace", (0, 2, 4)),
        (AnimateWanModel, "wan-animate", (0, 5)),
    ],
)  # fmt: skip
def test_knows_native_models(cls, name, sites):
    found = anatomies.find(cls())
    assert (found.name, found.sites, found.timestep, found.latent) == (name, sites, "timestep", "x")
    assert len(found.blocks) == 6 and found.width == 12
    assert found.grid({"x": torch.zeros(1, 4, 3, 5, 4)}) == (3, 3, 2)


def test_the_grid_is_unknown_where_reference_tokens_lead():
    model = WanModel()
    model.ref_conv = nn.Conv2d(4, 12, 2, 2)
    grid = anatomies.find(model).grid
    assert grid({"x": noise(), "reference_latent": noise()}) is None
    assert grid({"x": noise()}) == (2, 2, 2)


def test_leaves_the_official_classes_to_others():
    from toys import WanModel_S2V as Official

    assert (anatomies.find(Official()).name, anatomies.find(Official()).timestep) == ("wan-s2v", "t")


# -- one run -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("cls", MODELS)
def test_without_skipping_it_is_bit_equal(node, cls, batched):
    patcher = patcher_of(cls)
    plain, before = sample(patcher, batched=batched), classes(patcher)
    cached = node(patcher, method="none")
    assert torch.equal(sample(cached, batched=batched), plain)
    assert len(trace_of(cached).records) == (20 if batched else 40)
    assert classes(patcher) == before and not patcher.wrappers


@pytest.mark.parametrize("cls", MODELS)
@pytest.mark.parametrize("method", ["synccache", "synccache-linear", "interval", "whole-stack"])
def test_skips_and_comes_near(node, cls, method):
    patcher = patcher_of(cls)
    plain = sample(patcher)
    cached = node(patcher, method=method)
    out = sample(cached)
    assert trace_of(cached).skipped() > 5
    assert 0 < float((out - plain).norm() / plain.norm()) < 0.2
    assert torch.equal(sample(patcher), plain)


def test_skipped_blocks_never_run_and_audio_always_does(node):
    patcher, ran = patcher_of(WanModel_S2V), []
    model = patcher.model.diffusion_model

    def on_step(step):
        ran.append(([block.calls for block in model.blocks], list(model.audio_injector.injected)))
        model.audio_injector.injected.clear()
        for block in model.blocks:
            block.calls = 0

    cached = node(patcher, method="synccache")
    sample(cached, on_step=on_step)
    decisions = trace_of(cached).decisions()
    assert "skipped" in decisions
    for decision, (calls, injected) in zip(decisions, ran, strict=True):
        assert injected == 2 * [0, 2, 5]
        assert calls == ([2] * 6 if decision == "computed" else [2] + [0] * 5)


def test_hooks_live_only_while_sampling(node):
    patcher = patcher_of(WanModel_S2V)
    before, during = classes(patcher), []
    cached = node(patcher)
    assert classes(patcher) == before

    def stop(step):
        during.append(classes(patcher))
        if step == 7:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        sample(cached, on_step=stop)
    assert during[0] != before and classes(patcher) == before
    assert torch.equal(sample(cached), sample(node(patcher)))  # the broken-off run left nothing behind


def test_run_length_comes_from_the_sigmas(node):
    cached = node(patcher_of(WanModel), threshold=10.0, warmup=0.25)
    for steps in (20, 12):
        sample(cached, sigmas=torch.linspace(1, 0, steps + 1))
        reasons = [r.reason for r in trace_of(cached).steps()]
        first = steps // 4
        assert len(reasons) == steps and reasons[-1] == "last"
        assert set(reasons[1:first]) == {"warm-up"} and "warm-up" not in reasons[first:]


def test_computed_steps_hold_from_the_second_run_on(node, caplog):
    cached = node(patcher_of(WanModel_S2V), computed_steps=8)
    with caplog.at_level(logging.INFO):
        sample(cached)
    assert trace_of(cached).computed() == 20 and "the next run of as many steps computes 8" in caplog.text
    sample(cached)
    assert abs(trace_of(cached).computed() - 8) <= 1


def test_the_mask_reaches_the_probe(node):
    def errors(**given):
        cached = node(patcher_of(WanModel_S2V), **given)
        sample(cached, latent=noise(height=5))  # padded to whole patches
        return trace_of(cached).errors()[1]

    mask = torch.zeros(1, 10, 8)
    mask[:, :4] = 1
    assert errors(mask=mask) != errors()
    assert errors(mask=torch.ones(1, 10, 8)) == pytest.approx(errors())


# -- conditionings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", MODELS)
def test_conditionings_are_kept_apart_in_a_batch_and_out_of_it(node, cls):
    outs = [sample(node(patcher_of(cls), method="interval"), batched=batched) for batched in (False, True)]
    torch.testing.assert_close(outs[0], outs[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batched", [False, True])
def test_branches_are_named_by_their_uuids(node, batched):
    cached = node(patcher_of(WanModel))
    guider = Guider(cached, *inputs(WanModel), batched=batched)
    guider.sample(noise(), SIGMAS)
    positive, negative = (str(cond["uuid"]) for cond in guider.conds)
    named = {r.branch for r in trace_of(cached).records}
    assert named == ({(negative, positive)} if batched else {(negative,), (positive,)})


def test_another_split_of_the_batch_is_computed_anew(node):
    cached = node(patcher_of(WanModel), threshold=10.0)
    sample(cached, batched=lambda step: step < 10)  # memory ran short
    steps = trace_of(cached).steps()
    assert [steps[i].decision for i in (9, 10, 11)] == ["skipped", "computed", "skipped"]
    assert {r.decision for r in trace_of(cached).records if r.step == 10} == {"computed"}


def test_a_pass_with_skipped_layers_is_a_branch_of_its_own(node):
    cached = node(patcher_of(WanModel), method="interval")
    plain = sample(cached)
    assert torch.equal(sample(cached, skip_layer=3), plain)
    assert len({r.branch for r in trace_of(cached).records}) == 3


def test_static_context_windows_have_anchors_of_their_own(node):
    patcher = patcher_of(WanModel)
    cached = node(patcher, method="interval")
    whole = noise(frames=4)
    halves = torch.cat([sample(cached, latent=part) for part in whole.split(2, 2)], 2)
    cached.model_options["context_handler"] = Handler("batched", 2)
    torch.testing.assert_close(sample(cached, latent=whole), halves, rtol=1e-5, atol=1e-6)
    assert len({r.branch for r in trace_of(cached).records}) == 4


def test_moving_context_windows_are_left_alone(node, caplog):
    patcher = patcher_of(WanModel)
    patcher.model_options["context_handler"] = Handler("standard_uniform", 2)
    plain, cached = sample(patcher, latent=noise(frames=4)), node(patcher, method="interval")
    assert torch.equal(sample(cached, latent=noise(frames=4)), plain)
    assert trace_of(cached) is None and "standard_uniform" in caplog.text
    sample(cached, latent=noise(frames=2))  # one window
    assert trace_of(cached).skipped() > 5


# -- what is told ------------------------------------------------------------------------------------------------


def test_says_what_was_skipped(node, caplog, monkeypatch):
    shown = []

    class PromptServer:
        class instance:
            @staticmethod
            def send_progress_text(text, node_id):
                shown.append((text, node_id))

    server = ModuleType("server")
    server.PromptServer = PromptServer
    monkeypatch.setitem(sys.modules, "server", server)
    cached = node(patcher_of(WanModel), node_id="17", verbose=True)
    with caplog.at_level(logging.INFO):
        sample(cached)
    skipped = trace_of(cached).skipped()
    assert [(text.split(",")[0], node_id) for text, node_id in shown] == [(f"{skipped} of 20 steps skipped", "17")]
    assert trace_of(cached).summary() in caplog.text
    assert "step 0: computed" in caplog.text and "step 19: computed (last)" in caplog.text


# -- neighbours --------------------------------------------------------------------------------------------------


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
