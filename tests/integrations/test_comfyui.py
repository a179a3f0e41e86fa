"""The ComfyUI node on structural doubles of ComfyUI and its Wan models."""

import logging
import sys
from types import ModuleType

import pytest
import torch
from comfy_models import AnimateWanModel, VaceWanModel, WanModel, WanModel_S2V
from comfy_runs import MODELS, hooked, noise, patcher_of, sample, trace_of
from torch import nn

import synccache
from synccache import anatomies


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
    from synccache.testing import WanModel_S2V as Official

    assert (anatomies.find(Official()).name, anatomies.find(Official()).timestep) == ("wan-s2v", "t")


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("cls", MODELS)
def test_without_skipping_it_is_bit_equal(node, cls, batched):
    patcher = patcher_of(cls)
    plain, before = sample(patcher, batched=batched), hooked(patcher)
    cached = node(patcher, method="none")
    assert torch.equal(sample(cached, batched=batched), plain)
    assert len(trace_of(cached).records) == (20 if batched else 40)
    assert hooked(patcher) == before == [] and not patcher.wrappers


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
    before, during = hooked(patcher), []
    cached = node(patcher)
    assert hooked(patcher) == before == []

    def stop(step):
        during.append(hooked(patcher))
        if step == 7:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        sample(cached, on_step=stop)
    assert during[0] and hooked(patcher) == before
    assert torch.equal(sample(cached), sample(node(patcher)))  # the broken-off run left nothing behind


def test_run_length_comes_from_the_sigmas(node):
    cached = node(patcher_of(WanModel), threshold=10.0, warmup=0.25)
    for steps in (20, 12):
        sample(cached, sigmas=torch.linspace(1, 0, steps + 1))
        reasons = [r.reason for r in trace_of(cached).steps()]
        first = steps // 4
        assert len(reasons) == steps and reasons[-1] == "last"
        assert set(reasons[1:first]) == {"warm-up"} and "warm-up" not in reasons[first:]


def test_computed_steps_hold_from_the_first_run_on(node):
    cached = node(patcher_of(WanModel_S2V), computed_steps=8)
    for _ in range(2):
        sample(cached)
        assert trace_of(cached).computed() == 8


@pytest.mark.filterwarnings("ignore:speed=")  # of so small a model, a skipped step may cost anything
def test_a_speed_takes_the_place_of_threshold_and_steps(node):
    cached = node(patcher_of(WanModel_S2V), speed=2.0)
    sample(cached)
    steps = len(trace_of(cached).steps())
    assert 5 <= trace_of(cached).computed() <= max(5, steps // 2)
    with pytest.raises(synccache.InputError, match="speed or computed_steps"):
        node(patcher_of(WanModel_S2V), speed=2.0, computed_steps=8)


def test_the_mask_reaches_the_probe(node):
    def errors(**given):
        cached = node(patcher_of(WanModel_S2V), **given)
        sample(cached, latent=noise(height=5))  # padded to whole patches
        return trace_of(cached).errors()[1]

    mask = torch.zeros(1, 10, 8)
    mask[:, :4] = 1
    assert errors(mask=mask) != errors()
    assert errors(mask=torch.ones(1, 10, 8)) == pytest.approx(errors())


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
