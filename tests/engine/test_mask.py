"""Masks: checked, pooled to the token grid, per sample and per guidance branch."""

import pytest
import torch

import synccache
from synccache import Anatomy, InputError
from synccache.core.mask import checked_mask, token_weights
from synccache.testing import Pipeline, Video, WanModel_S2V, s2v_inputs


def test_a_picture_is_averaged_over_patches_and_repeated_over_frames():
    mask = torch.zeros(4, 4)
    mask[:2, :2] = 1
    mask[2, 2] = 1
    weights = token_weights(mask, (3, 2, 2), None, 5)
    assert weights.tolist() == [[1, 0, 0, 0.25] * 3]


def test_frames_samples_and_tokens():
    assert token_weights(torch.rand(6, 4, 4), (3, 2, 2), None, 1).shape == (1, 12)
    each = torch.rand(2, 1, 4, 4)
    weights = token_weights(each, (3, 2, 2), None, 4)  # two guidance branches in one batch
    assert weights.shape == (4, 12) and torch.equal(weights[:2], weights[2:])
    assert torch.allclose(weights[1, :4].reshape(2, 2), torch.nn.functional.avg_pool2d(each[1], 2)[0])
    with pytest.raises(InputError, match="for 2 samples, the transformer is called with 3"):
        token_weights(each, (3, 2, 2), None, 3)
    assert token_weights(torch.rand(12), (3, 2, 2), None, 1).shape == (1, 12)
    assert token_weights(torch.rand(12), None, 12, 1).shape == (1, 12)
    with pytest.raises(InputError, match="11 token weights, the model 12"):
        token_weights(torch.rand(11), (3, 2, 2), None, 1)
    assert token_weights(torch.rand(4, 4), None, 12, 1) is None


def test_what_a_mask_may_be():
    assert checked_mask(torch.full((2, 2), 255, dtype=torch.uint8)).unique().tolist() == [1]
    assert checked_mask([[0, 1], [1, 0]]).dtype is torch.float32
    assert checked_mask(None) is None
    for bad in (torch.full((2, 2), -1.0), torch.full((2, 2), 2.0), torch.full((2, 2), float("nan")), torch.ones(0, 2)):
        with pytest.raises(InputError, match="mask"):
            checked_mask(bad)


def test_the_mask_reaches_the_probe_of_the_video_tokens_only():
    """Only the person's corner changes from step to step, so the weighted error must be the larger one."""
    model, errors = WanModel_S2V().eval(), {}
    mask = torch.zeros(4, 4)
    mask[:2, :2] = 1
    for name, given in (("none", None), ("person", mask), ("all", torch.ones(4, 4)), ("background", 1 - mask)):
        inputs = s2v_inputs()
        with torch.no_grad(), synccache.cached(model, "synccache", mask=given, mask_weight=3.0, steps=20) as handle:
            for i, t in enumerate((500.0, 499.99, 499.98)):
                x = inputs.x[0].clone()
                x[:, :, :2, :2] += i
                model([x], torch.tensor([t]), inputs.context, None, inputs.audio_input, inputs.ref_latents)
            errors[name] = handle.trace.errors()[-1]
    assert errors["person"] > 1.2 * errors["none"] > 1.2 * errors["background"]
    assert errors["all"] == pytest.approx(errors["none"], rel=1e-4)


def test_a_mask_can_change_while_attached():
    model, inputs = WanModel_S2V().eval(), s2v_inputs()
    with torch.no_grad(), synccache.cached(model, "synccache", steps=20) as handle:
        for mask in (torch.ones(8, 8), torch.zeros(8, 8), None):
            handle.mask = mask
            model(inputs.x, torch.tensor([500.0]), inputs.context, None, inputs.audio_input)
            assert handle.mask is mask or torch.equal(handle.mask, mask)
        with pytest.raises(InputError):
            handle.mask = torch.ones(2, 2) * 9


def test_an_unknown_grid_is_noticed_once_and_probing_stays_uniform():
    pipe = Pipeline(Video())
    with (
        synccache.cached(pipe, "synccache", mask=torch.ones(4, 4)),
        pytest.warns(synccache.Notice, match="grid") as seen,
    ):
        pipe()
    assert len(seen) == 1


def test_person_and_background_are_forecast_each_in_its_own_way():
    """Without a mask, and where both groups have the same settings, ``asymmetric`` is ``synccache-linear``."""
    outs = {}
    anatomy = {"grid": lambda a: (2, 4, 4), "sites": (0, 2)}
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4, :] = 1
    for name, method, given in (
        ("linear", "synccache-linear", {}),
        ("no mask", "asymmetric", {}),
        ("alike", "asymmetric", {"background_contraction": 0.5, "mask": mask, "mask_weight": 1.0}),
        ("apart", "asymmetric", {"mask": mask, "mask_weight": 1.0}),
    ):
        pipe = Pipeline(Video())
        own = Anatomy("video", tuple(pipe.transformer.blocks), **anatomy)
        with synccache.cached(pipe, method, threshold=0.5, anatomy=own, **given) as handle:
            outs[name] = pipe()
            assert handle.trace.skipped() > 0
    assert torch.equal(outs["linear"], outs["no mask"])
    torch.testing.assert_close(outs["linear"], outs["alike"])
    assert not torch.allclose(outs["linear"], outs["apart"])


def test_a_batch_with_a_mask_for_each():
    pipe = Pipeline(Video(), batched=True)
    anatomy = Anatomy("video", tuple(pipe.transformer.blocks), sites=(0, 2), grid=lambda a: (2, 4, 4))
    with synccache.cached(pipe, "asymmetric", mask=torch.rand(3, 1, 8, 8), anatomy=anatomy) as handle:
        out = pipe(shape=(3, 4, 2, 4, 4))
    assert torch.isfinite(out).all() and handle.trace.skipped() > 0
