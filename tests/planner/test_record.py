"""One uncached run, recorded."""

import itertools
from dataclasses import replace

import pytest
import torch

import synccache
from synccache import Anatomy, InputError, Method
from synccache.anatomies import find
from synccache.forecasters import Reuse
from synccache.gates import Never
from synccache.planner import record
from synccache.scopes import Modules, Segments, WholeModel, WholeStack
from synccache.testing import AddModel, Pipeline, TwoStream, Video, WanModel_S2V, s2v_inputs


def run_s2v(model, steps=5, batch=1):
    """Two guidance branches; what the conditional one returns."""
    inputs, outputs = s2v_inputs(0, batch), []
    for t in torch.linspace(1000, 200, steps).tolist():
        x = [u * t / 1000 for u in inputs.x]
        for audio in (inputs.audio_input, torch.zeros(batch, 16)):
            out = model(x, torch.tensor([t]), inputs.context, None, audio, inputs.ref_latents)
            outputs.append(out[0])
    return outputs[::2]


def stored(model, scope, run):
    """By hand: what the engine stores of the conditional branch, whole, by region."""
    found: dict = {}
    method = Method(Never(), scope, Reuse())

    def keep(shown):
        if shown.leads:
            found.setdefault(shown.region.id, []).append(shown.value.clone())
        return True

    with torch.no_grad(), synccache.cached(model, method) as handle:
        handle.on_store = keep
        run()
    return found


@pytest.mark.parametrize("scope", [Segments(), WholeStack()])
def test_features_are_what_is_stored_of_the_deciding_branchs_video_tokens(scope):
    model = WanModel_S2V().eval()
    made = record(model, lambda: run_s2v(model), scope=scope)
    whole = stored(model, scope, lambda: run_s2v(model))
    assert list(made.features) == list(whole) and made.steps == 5 and made.timesteps[0] == 1000
    for region, values in whole.items():
        assert values[0].shape[1] == 12  # of which 8 are video tokens and 4 of the reference
        torch.testing.assert_close(made.features[region], torch.cat(values)[:, :8], rtol=0, atol=1e-6)


def test_nothing_is_left_attached_and_nothing_is_skipped():
    model = WanModel_S2V().eval()
    record(model, lambda: run_s2v(model), scope=WholeStack())
    assert type(model) is WanModel_S2V and {b.calls for b in model.blocks} == {10}


def test_samples_are_the_same_places_on_every_step_from_first_to_last():
    model, inputs = WanModel_S2V().eval(), s2v_inputs(0, batch=3)
    mask = torch.rand(8)

    def run():
        for t in (900.0, 500.0):
            model(inputs.x, torch.tensor([t]), inputs.context, None, inputs.audio_input, inputs.ref_latents)

    every = record(model, run, scope=WholeStack(), mask=mask)
    few = record(model, run, scope=WholeStack(), mask=mask, samples=4)
    places = [0, 8, 15, 23]  # of 3 × 8 tokens
    (region,) = every.features
    assert every.features[region].shape == (2, 24, 16) and every.person.shape == (24,)
    assert torch.equal(few.features[region], every.features[region][:, places])
    assert torch.equal(few.person, every.person[places])
    torch.testing.assert_close(every.person, mask.repeat(3))
    assert few.outputs.shape == every.outputs.shape == (2, 128)
    assert record(model, run, scope=WholeStack(), samples=1).outputs.shape == (2, 64)


def test_outputs_and_changes_by_hand():
    model = WanModel_S2V().eval()
    with torch.no_grad():
        outputs = run_s2v(model)
    made = record(model, lambda: run_s2v(model), scope=WholeModel())
    assert made.features == {}
    torch.testing.assert_close(made.outputs, torch.stack([o.flatten() for o in outputs]))
    changes = [float((b - a).abs().sum() / a.abs().sum()) for a, b in itertools.pairwise(outputs)]
    assert made.changes[0] is None and made.changes[1:] == pytest.approx(changes, rel=1e-5)


def test_signals_are_changes_of_the_time_embedding():
    pipe = Pipeline(Video())
    made = record(pipe, lambda: pipe(steps=4), scope=WholeStack())
    assert made.signals[0] is None  # the toy's embedding is the timestep itself
    assert made.signals[1:] == pytest.approx([250 / 1000, 250 / 750, 250 / 500], rel=1e-5)


def test_a_model_without_a_time_embedding_has_no_signals():
    model, x = AddModel(), torch.full((1, 2, 3), 20.0)
    made = record(model, lambda: [model(x, torch.tensor([t]), torch.tensor(t)) for t in (4.0, 3.0)], scope=WholeStack())
    assert made.signals == () and made.changes[1] == pytest.approx(6 / 44)
    assert made.features["blocks 0-2"][:, 0, 0].tolist() == [24, 18]


def test_sites_that_are_found_on_the_way_cost_a_second_run():
    calls, pipe = [], Pipeline(Video())

    def run(**known):
        calls.clear()
        return record(pipe, lambda: calls.append(pipe(steps=3)), scope=Segments(), **known)

    made = run()
    assert list(made.features) == ["blocks 0-0", "blocks 1-2", "blocks 3-4"] and len(calls) == 2
    assert {len(f) for f in made.features.values()} == {3}
    anatomy = Anatomy("video", tuple(pipe.transformer.blocks), sites=(0, 2))
    assert torch.allclose(run(anatomy=anatomy).features["blocks 1-2"], made.features["blocks 1-2"])
    assert len(calls) == 1


def test_of_several_runs_the_first_counts():
    pipe = Pipeline(Video())
    one = record(pipe, lambda: pipe(steps=4), scope=WholeStack())
    two = record(pipe, lambda: [pipe(steps=4), pipe(steps=6, seed=1)], scope=WholeStack())
    assert two.timesteps == one.timesteps and torch.equal(two.outputs, one.outputs)
    assert torch.equal(two.features["blocks 0-4"], one.features["blocks 0-4"])


def test_two_experts_are_one_run():
    pipe = Pipeline(Video(), Video(seed=1))
    made = record(pipe, lambda: pipe(steps=6), scope=WholeStack())
    assert made.features["blocks 0-4"].shape == (6, 32, 8) and len(made.changes) == 6


def test_of_two_streams_the_one_with_the_video_is_recorded():
    """Single blocks carry text before the image in one stream: its tokens are left out there."""
    model, text = TwoStream().eval(), torch.randn(1, 2, 8)
    noise = torch.randn(1, 6, 8) + 0.1 * torch.randn(2, 1, 6, 8)
    anatomy = replace(
        find(model), grid=lambda bound: (1, 2, 3), before={"SingleBlock": lambda bound: 2}, sites=(),
        streams={"DoubleBlock": {"hidden_states": 1, "encoder_hidden_states": 0}},
    )  # fmt: skip
    made = record(
        model, lambda: [model(x, text, torch.tensor([9.0 - n])) for n, x in enumerate(noise)], scope=WholeStack(),
        anatomy=anatomy,
    )  # fmt: skip
    assert [f.shape for f in made.features.values()] == [(2, 6, 8), (2, 6, 8)]
    whole = sum(made.features.values())
    for step, x in enumerate(noise):
        out = model(x, text, torch.tensor([9.0 - step]))
        torch.testing.assert_close(whole[step], (out - x)[0].detach(), rtol=1e-5, atol=1e-5)


def test_a_run_of_one_step_is_refused():
    pipe = Pipeline(Video())
    with pytest.raises(InputError, match="made 1 steps of the model; at least 2"):
        record(pipe, lambda: pipe(steps=1), scope=WholeStack())
    with pytest.raises(InputError, match="made 0 steps"):
        record(pipe, lambda: None, scope=WholeStack())
    assert type(pipe.transformer) is Video


def test_a_call_that_breaks_off_leaves_nothing_attached():
    pipe = Pipeline(Video())

    def broken():
        pipe(steps=2)
        raise KeyError("the user's")

    with pytest.raises(KeyError):
        record(pipe, broken, scope=WholeStack())
    assert type(pipe.transformer) is Video and type(pipe.transformer.blocks[0]).__dict__.get("_synccache_base") is None


def test_modules_give_their_outputs():
    model, heard = WanModel_S2V().eval(), []
    model.blocks[3].ffn.register_forward_hook(lambda module, args, output: heard.append(output.clone()))
    made = record(model, lambda: run_s2v(model), scope=Modules(attention=False))
    assert len(made.features) == 7
    torch.testing.assert_close(made.features["block 3 ffn"], torch.cat(heard[::2])[:, :8], rtol=0, atol=0)


def test_features_of_a_half_precision_model_are_not_rounded_again():
    pipe = Pipeline(Video().bfloat16())

    def run():
        x = torch.randn(1, 4, 2, 4, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
        return [pipe.transformer(x, torch.tensor([t]).bfloat16()) for t in (900.0, 500.0)]

    (features,) = record(pipe, run, scope=WholeStack()).features.values()
    assert features.dtype is torch.float32 and not torch.equal(features, features.bfloat16().float())
