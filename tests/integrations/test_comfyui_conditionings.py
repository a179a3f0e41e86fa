"""What the node keeps apart: conditionings, branches, windows."""

import pytest
import torch
from comfy_doubles import Guider, Handler
from comfy_models import WanModel
from comfy_runs import MODELS, SIGMAS, inputs, noise, patcher_of, sample, trace_of


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
    assert len({(r.branch, r.window) for r in trace_of(cached).records}) == 4


def test_moving_context_windows_are_left_alone(node, caplog):
    patcher = patcher_of(WanModel)
    patcher.model_options["context_handler"] = Handler("standard_uniform", 2)
    plain, cached = sample(patcher, latent=noise(frames=4)), node(patcher, method="interval")
    assert torch.equal(sample(cached, latent=noise(frames=4)), plain)
    assert trace_of(cached) is None and "standard_uniform" in caplog.text
    sample(cached, latent=noise(frames=2))  # one window
    assert trace_of(cached).skipped() > 5
