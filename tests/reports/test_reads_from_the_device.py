"""Numbers come to the host together: once a step, whatever the conditioning."""

import pytest
import torch
from loops import LATENT, noise, prompt, sample, small
from models import hunyuan, image, wan

import synccache

STEPS = 20
OVER = {"synccache": 0.3, "synccache-cfg": 0.3, "teacache": 0.5, "easycache": 3.0}  # thresholds


def settings(method):
    early = {"warmup": 3} if method == "easycache" else {}
    return {"threshold": OVER[method], **early} if method in OVER else {}


def copied(given):
    """With tensors of its own, also in lists."""
    copy = lambda v: [copy(x) for x in v] if isinstance(v, list) else v.clone() if torch.is_tensor(v) else v  # noqa: E731
    return {name: copy(value) for name, value in given.items()}


# (model, what it is called with at a step beside latent and timestep, the latent's shape, what a timestep is over)
KINDS = {
    "wan": (small, lambda step: prompt(1), LATENT, 1),
    "vace": (wan.build_vace, lambda step: {k: v for k, v in wan.vace(1).items() if k != "hidden_states"}, LATENT, 1),
    "hunyuan": (hunyuan.build, lambda step: hunyuan.inputs(1), LATENT, 1),
    "flux, controlnet": (image.build_flux, lambda step: image.flux(1) | image.flux_control(step), (1, 24, 8), 1000),
    "sd3, controlnet": (image.build_sd3, lambda step: image.sd3(1) | image.sd3_control(step), (1, 4, 8, 12), 1),
    "qwen, controlnet": (image.build_qwen, lambda step: image.qwen(1) | image.qwen_control(step), (1, 24, 8), 1000),
}


@pytest.mark.parametrize("method", ["interval", "synccache", "taylorseer", "teacache", "easycache"])
@pytest.mark.parametrize("kind", KINDS)
def test_one_pass_with_tensors_that_are_made_anew_at_every_step(kind, method):
    build, given, shape, over = KINDS[kind]
    model = build()
    with synccache.cached(model, method, steps=STEPS, **settings(method)) as handle:
        sample(model, lambda step: [copied(given(step))], noise(1, *shape), time=lambda t: t[None] / over)
        assert handle.host_reads <= STEPS
        assert method == "teacache" or handle.trace.skipped() > 4


@pytest.mark.parametrize("passes", [1, 2, 3])
@pytest.mark.parametrize("method", ["interval", "synccache", "synccache-cfg", "taylorseer", "easycache"])
def test_passes_whose_conditioning_keeps_its_objects(method, passes):
    """At the first step every further pass has to be seen to be another one; from then on its objects tell."""
    model, texts = small(), [prompt(n) for n in range(passes)]
    with synccache.cached(model, method, steps=STEPS, **settings(method)) as handle:
        sample(model, texts, noise(1, *LATENT))
        assert handle.host_reads <= STEPS + passes - 1
        assert handle.trace.skipped() > 4


@pytest.mark.parametrize("passes", [2, 3])
def test_passes_whose_conditioning_is_made_anew_cost_one_each(passes):
    """No object tells which is which, so each pass's own numbers have to come."""
    model = small()
    with synccache.cached(model, "synccache", steps=STEPS, threshold=0.3) as handle:
        sample(model, lambda step: [copied(prompt(n)) for n in range(passes)], noise(1, *LATENT))
        assert handle.host_reads <= STEPS * passes and {r.branch for r in handle.trace} == set(range(passes))


@pytest.mark.parametrize("passes", [1, 2])
def test_what_is_told_needs_no_reading(passes):
    """With step and pass told, a schedule of steps is followed without a number from the device."""
    model, texts = small(), [prompt(n) for n in range(passes)]
    with synccache.cached(model, "interval", steps=STEPS) as handle:
        sample(model, texts, noise(1, *LATENT), around=lambda step, n: handle.at(step=step, branch=n))
        assert handle.host_reads <= passes and handle.trace.skipped() == 12
