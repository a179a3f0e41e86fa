"""Gradients, gradient checkpointing and inference mode: what autograd records is computed, the rest may be skipped."""

import pytest
import torch
from tiny import COMPUTED, LIVE, cached, count_calls, denoise, tiny_wan, wan_inputs

import synccache


def step(model, timestep: float):
    inputs = wan_inputs()
    return model(inputs.latent, torch.tensor([timestep]), inputs.text, return_dict=False)[0]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_autograd_records_is_computed(checkpointing):
    """With gradient checkpointing the blocks run again in the backward pass, outside of any call of the model."""
    plain, model = tiny_wan(), tiny_wan()
    for one in (plain, model):
        if checkpointing:
            one.enable_gradient_checkpointing()
    with cached(model) as handle, pytest.warns(synccache.Notice, match="no_grad"):
        counts = count_calls(model.blocks)
        for timestep in (1000.0, 900.0, 800.0):
            out, expected = step(model, timestep), step(plain, timestep)
            assert torch.equal(out, expected)
            out.sum().backward()
            expected.sum().backward()
        assert counts == [6 if checkpointing else 3] * 5
        assert len(handle.trace) == 0 and handle.bytes == 0
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None) and (a.grad is None or torch.equal(a.grad, b.grad))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_frozen_weights_are_skipped_though_gradients_are_on(checkpointing):
    model = tiny_wan().requires_grad_(False)
    if checkpointing:
        model.enable_gradient_checkpointing()
    counts = count_calls(model.blocks)
    with cached(model) as handle:
        for timestep in (1000.0, 900.0, 800.0):
            assert torch.isfinite(step(model, timestep)).all()
        assert handle.trace.decisions() == ["computed", "computed", "skipped"]
    assert counts == [3, 2, 2, 2, 2]


def test_checkpointing_means_nothing_without_gradients():
    model = tiny_wan()
    with cached(model):
        expected = denoise(model)
        model.enable_gradient_checkpointing()
        assert torch.equal(denoise(model), expected)


def test_inference_mode():
    model = tiny_wan()
    with cached(model):
        expected = denoise(model)
    counts = count_calls(model.blocks)
    with cached(model) as handle, torch.inference_mode():
        out = denoise(model)
        assert out.is_inference() and torch.equal(out, expected)
        assert torch.equal(denoise(model), expected)
        assert sum(r.decision == "computed" for r in handle.trace.records) == 2 * len(COMPUTED)
    assert counts == [2 * n for n in LIVE]


def test_from_inference_mode_to_no_grad():
    """Anchors made under inference mode can be read afterwards."""
    model, inputs = tiny_wan(), wan_inputs()
    with cached(model) as handle:
        with torch.inference_mode():
            step(model, 1000.0)
            step(model, 900.0)
        with torch.no_grad():
            out = model(inputs.latent, torch.tensor([800.0]), inputs.text, return_dict=False)[0]
        assert handle.trace.decisions()[-1] == "skipped" and torch.isfinite(out).all()
