"""Recipes whose forecast has groups or is learned: what their settings reach, and what they learn."""

from dataclasses import replace

import pytest
import torch

import synccache
from synccache import InputError
from synccache.core.types import Action, Decision, Run, Seen, Step
from synccache.forecasters import (
    POOL,
    Average,
    ByChannel,
    ByFrequency,
    BySubspace,
    Chebyshev,
    Dmd,
    Hermite,
    LowPass,
    Reuse,
    Slopes,
    Subspace,
    Taylor,
)
from synccache.gates import Growing, Interval, Listed, MaxGap, Warmup, replay
from synccache.methods import RECIPES, complete
from synccache.planner import learn_profile
from synccache.profiles import Profile
from synccache.testing import Pipeline, Video, WanModel_S2V, distance, s2v_inputs

NAMES = ["dmd", "freqca", "hyca", "spectrum", "svd-cache"]


def made_up(tensors):
    return Profile(method="made up", tensors=tensors, model={}, timesteps=())


PROFILES = {
    "hyca": made_up({"rule_of_channel": torch.tensor([0, 3, 1, 2, 5, 4, 3, 0])}),
    "svd-cache": made_up({"basis": torch.eye(8)[:, :3]}),
}


def built(name, **given):
    recipe = RECIPES[name]
    return recipe.build({**complete(recipe, given), **({"profile": PROFILES[name]} if name in PROFILES else {})})


def computed(name, total, **given):
    return [i for i, c in enumerate(replay(built(name, **given).gate, [None] * total)) if c]


# -- when ------------------------------------------------------------------------------------------------------------


def test_published_schedules_of_fifty_steps():
    assert computed("freqca", 50) == [0, 1, 2, 8, 14, 20, 26, 32, 38, 44]
    assert computed("hyca", 50) == computed("svd-cache", 50) == [0, 1, *range(2, 50, 5)]
    assert computed("spectrum", 50) == [0, 1, 2, 3, 4, 6, 8, 11, 15, 20, 25, 31, 38, 46]
    assert computed("spectrum", 50, growth=3) == [0, 1, 2, 3, 4, 6, 11, 19, 30, 44]


def test_what_is_forced_does_not_let_the_interval_grow():
    free = [i for i, c in enumerate(replay(Growing(2, 1), [None] * 15)) if c]
    assert free == [0, 2, 5, 9, 14]
    forced = [i for i, c in enumerate(replay(Warmup(Growing(2, 1), 4), [None] * 15)) if c]
    assert forced == [0, 1, 2, 3, 5, 8, 12]
    bound = [i for i, c in enumerate(replay(MaxGap(Growing(4, 9), 3), [None] * 10)) if c]
    assert bound == [0, 3, 6, 9]


def test_a_step_that_had_to_be_computed_counts_as_the_last_one():
    gate = Growing(3, 2)
    state = gate.record(gate.init(Run(20)), Step(0), Decision(Action.COMPUTE), Seen())
    decision, state = gate.decide(state, Step(1), Seen())
    assert decision.fills
    state = gate.record(state, Step(1), replace(decision, action=Action.COMPUTE), Seen())  # no anchors, say
    assert gate.decide(state, Step(3), Seen())[0].fills and not gate.decide(state, Step(4), Seen())[0].fills


# -- how -------------------------------------------------------------------------------------------------------------


def test_settings_reach_the_forecasters():
    assert built("freqca").forecaster == ByFrequency(Reuse(), Hermite(2, 0.71), LowPass(0.1))
    assert built("freqca", keep=0.3, order=1, sigma=0.5).forecaster == ByFrequency(
        Reuse(), Hermite(1, 0.5), LowPass(0.3)
    )
    assert built("dmd").forecaster == Dmd(6) and built("dmd").gate == Warmup(Interval(4), 4)
    assert built("spectrum").forecaster == Chebyshev(4, 0.1, 16, centred=True)
    assert built("spectrum", centred=False, ridge=1.0, anchors=9).forecaster == Chebyshev(4, 1.0, 9, centred=False)
    of = PROFILES["hyca"].tensors["rule_of_channel"]
    assert built("hyca").forecaster == ByChannel(tuple(POOL.values()), of)
    for name in NAMES:
        assert built(name).name == name and built(name).scope.absorb and not built(name, decoupled=True).scope.absorb


@pytest.mark.parametrize(
    ("given", "principal"),
    [
        ({}, Average(0.9, 8)),
        ({"variant": "newest", "beta": 0.75, "anchors": 3}, Average(0.25, 3)),
        ({"variant": "slopes", "anchors": 4}, Slopes(0.9, 4)),
        ({"variant": "polynomial", "order": 2}, Taylor(2)),
    ],
)
def test_svd_cache_has_its_variants(given, principal):
    basis = PROFILES["svd-cache"].tensors["basis"]
    assert built("svd-cache", **given).forecaster == BySubspace(principal, Reuse(), Subspace(basis))


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("freqca", "keep", 1.5), ("svd-cache", "variant", "ema"), ("svd-cache", "energy", 0), ("svd-cache", "beta", -1),
        ("hyca", "clusters", 0), ("spectrum", "growth", -1), ("spectrum", "centred", 1), ("dmd", "anchors", 2.5),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(name, setting, value):
    with pytest.raises(InputError, match=f"{setting}={value!r} can't be used: {setting} is "):
        complete(RECIPES[name], {setting: value})


# -- what is learned -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_without_a_profile_it_says_how_to_get_one(name):
    tensor = next(iter(PROFILES[name].tensors))
    with pytest.raises(InputError, match=rf"'{name}' needs profile=.*learn_profile\(pipe, '{name}'"):
        synccache.apply(Video(), name)
    other = made_up({"rows": torch.zeros(2, 2)})
    with pytest.raises(InputError, match=f"has no '{tensor}', only 'rows'.*learn_profile"):
        RECIPES[name].build({**RECIPES[name].settings, "profile": other})


@pytest.mark.parametrize("of", [torch.tensor([0, 6]), torch.tensor([-1, 0]), torch.zeros(3), torch.zeros(2, 2).long()])
def test_a_channel_map_that_is_none_is_refused(of):
    wrong = made_up({"rule_of_channel": of})
    with pytest.raises(
        InputError, match=r"rule_of_channel is .* from 0 to 5, one for each channel|shape \[2, 2\]; wanted"
    ):
        RECIPES["hyca"].build({**RECIPES["hyca"].settings, "profile": wrong})


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_a_profile_is_learned_saved_and_used(name, tmp_path):
    pipe = Pipeline(Video())
    profile = learn_profile(pipe, name, lambda: pipe(steps=12))
    assert {k: (v.dtype, v.ndim) for k, v in profile.tensors.items()} == {
        k: (v.dtype, v.ndim) for k, v in PROFILES[name].tensors.items()
    }
    assert next(iter(profile.tensors.values())).shape[0] == 8  # channels
    path = profile.save(tmp_path / "profile.safetensors")
    with synccache.cached(pipe, name, profile=path) as handle:
        pipe()
        assert handle.trace.skipped() > 0


def test_the_energy_asked_for_decides_how_many_directions():
    pipe = Pipeline(Video())
    ranks = [
        learn_profile(pipe, "svd-cache", lambda: pipe(steps=8), energy=e).tensors["basis"].shape for e in (0.5, 1.0)
    ]
    assert ranks[0][1] < ranks[1][1] == 8


# -- through the engine ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_one_step_ahead_it_is_nearer_than_nothing(name):
    """A slowly moving input with tokens behind the video: half of the steps computed, in float32 and stored in half."""
    model, inputs = WanModel_S2V().eval(), s2v_inputs()

    def run():
        with torch.no_grad():
            for t in torch.linspace(900, 600, 12).tolist():
                out = model(inputs.x, torch.tensor([t]), inputs.context, None, inputs.audio_input, inputs.ref_latents)
        return out[0]

    plain = run()
    given = {"profile": learn_profile(model, name, run, steps=12)} if RECIPES[name].learn else {}
    with synccache.cached(model, name, steps=12, **given) as handle:
        method = replace(handle.method, gate=Listed(frozenset({0, 1, 2, 3, 5, 7, 9})))
    size = 12 * 16 * min(method.forecaster.anchors, 7)  # tokens, channels, anchors
    for dtype, width in ((None, 4), (torch.bfloat16, 2)):
        with synccache.cached(model, method, steps=12, storage_dtype=dtype) as handle:
            assert distance(run(), plain) < 0.05
            assert handle.trace.decisions()[-1] == "skipped"
            assert handle.trace.bytes_peak == size * width
