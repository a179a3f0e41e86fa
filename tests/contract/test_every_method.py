"""What every registered method has to keep, on a pipeline with guidance and on a model with Wan-S2V's structure."""

import pytest
import torch
from toys import Pipeline, Video, WanModel_S2V, distance, s2v_inputs

import synccache
from synccache.methods import RECIPES
from synccache.methods.settings import COMMON

NEEDED = {"schedule": {"schedule": [0, 1, 2, 5, 9, 13, 19]}, "fewer-steps": {"computed_steps": 9}}
NAMES = sorted(RECIPES)
SKIPPING = [n for n in NAMES if RECIPES[n].build({**COMMON, **RECIPES[n].settings, **NEEDED.get(n, {})}).gate.skips]
STILL = {"max_gap": 1}  # no step may follow a computed one without being computed


def attached(target, name, **settings):
    return synccache.cached(target, name, **{**NEEDED.get(name, {}), **settings})


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_runs_skips_and_removes(name, batched):
    pipe = Pipeline(Video(), batched=batched)
    classes = [type(m) for m in pipe.transformer.modules()]
    plain = pipe()
    with attached(pipe, name) as handle:
        out = pipe()
        assert torch.isfinite(out).all()
        if name in SKIPPING:
            assert handle.trace.skipped() > 0 and not torch.equal(out, plain)
        assert handle.trace.decisions()[0] == "computed"
    assert [type(m) for m in pipe.transformer.modules()] == classes
    assert handle.bytes == 0
    assert torch.equal(pipe(), plain)


@pytest.mark.parametrize("name", SKIPPING)
def test_never_skipping_is_bit_equal(name):
    pipe = Pipeline(Video())
    plain = pipe()
    with attached(pipe, name, **STILL) as handle:
        assert torch.equal(pipe(), plain)
        assert handle.trace.skipped() == 0


@pytest.mark.parametrize("name", SKIPPING)
def test_the_second_run_is_as_if_it_were_the_first(name):
    pipe = Pipeline(Video())
    anatomy = synccache.Anatomy("video", tuple(pipe.transformer.blocks), sites=(0, 2))
    with attached(pipe, name, anatomy=anatomy):
        first = pipe(seed=1)
    with attached(pipe, name, anatomy=anatomy) as handle:
        pipe(seed=0, shape=(2, 4, 3, 4, 4))
        # The very first computed step sums block by block until it is known which hand over: the same to rounding.
        torch.testing.assert_close(pipe(seed=1), first, rtol=0, atol=1e-5)
        assert len(handle.trace.runs) == 2


@pytest.mark.parametrize("name", SKIPPING)
def test_a_batch_is_as_its_samples(name):
    """With decisions that don't hang on the content: one batch of two equal samples is the single sample twice."""
    pipe, model = Pipeline(Video()), Video()
    with attached(pipe, name) as handle:
        pipe()
        schedule = [i for i, d in enumerate(handle.trace.decisions()) if d == "computed"]
    x, audio = torch.randn(1, 4, 2, 4, 4), torch.randn(1, 8)
    method = synccache.Method(
        synccache.gates.Listed(frozenset(schedule), probe=handle.method.gate.probe),
        handle.method.scope,
        handle.method.forecaster,
    )
    outs = []
    for batch in (1, 2):
        with torch.no_grad(), synccache.cached(model, method):
            for t in torch.linspace(1000, 50, 20).tolist():
                out = model(x.repeat(batch, 1, 1, 1, 1), torch.tensor([t]), audio.repeat(batch, 1))
        outs.append(out)
    for sample in outs[1]:
        torch.testing.assert_close(sample[None], outs[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recording", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", SKIPPING)
def test_injection_modules_run_once_per_call_and_skipped_blocks_never(name, recording):
    model, inputs = WanModel_S2V().eval(), s2v_inputs()
    with recording(), attached(model, name, steps=20) as handle:
        for t in torch.linspace(1000, 50, 20).tolist():
            before = [b.calls for b in model.blocks]
            model.injections.clear()
            model(inputs.x, torch.tensor([t]), inputs.context, None, inputs.audio_input, inputs.ref_latents)
            assert model.injections == [0, 2, 4, 6]
            ran = [b.calls - n for b, n in zip(model.blocks, before, strict=True)]
            probe = handle.method.gate.probe
            skipped = handle.trace.records[-1].decision == "skipped"
            assert ran == ([1] * probe + [0] * (7 - probe) if skipped else [1] * 7)
        assert handle.trace.skipped() > 0


@pytest.mark.parametrize("name", SKIPPING)
def test_bfloat16(name):
    model = WanModel_S2V().eval().bfloat16()
    inputs = s2v_inputs()
    x, audio = [v.bfloat16() for v in inputs.x], inputs.audio_input.bfloat16()
    context, outs = [v.bfloat16() for v in inputs.context], {}
    for method in ("none", name):
        with torch.no_grad(), attached(model, method, steps=20):
            for t in torch.linspace(500, 499, 20).tolist():
                (outs[method],) = model(x, torch.tensor([t]), context, None, audio)
    assert outs[name].dtype is torch.bfloat16
    if RECIPES[name].settings.get("decoupled", True) or name in ("interval", "whole-stack"):
        assert distance(outs[name].float(), outs["none"].float()) < 0.05


@pytest.mark.parametrize("name", NAMES)
def test_settings_can_be_saved_and_loaded(name, tmp_path):
    pipe = Pipeline(Video())
    with attached(pipe, name) as handle:
        path = handle.save(tmp_path / "settings.json")
    with synccache.cached(pipe, settings=path) as again:
        assert again.method == handle.method


@pytest.mark.parametrize("name", SKIPPING)
def test_half_of_the_steps_come_near_the_whole(name):
    pipe = Pipeline(Video())
    plain = pipe(steps=40)
    given = {"schedule": list(range(0, 40, 2))} if name == "schedule" else {}
    given |= {"interval": 2} if "interval" in RECIPES[name].settings else {}
    with attached(pipe, name, **given):
        assert distance(pipe(steps=40), plain) < 0.1
