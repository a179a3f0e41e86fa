"""MagCache, L2P and searched schedules: their rules by hand, what they learn, and what they refuse."""

import json
from dataclasses import replace
from importlib.resources import files

import pytest
import torch
from torch import nn
from toys import Pipeline, Video, WanModel_S2V, distance, s2v_inputs

import synccache
from synccache import Anatomy, InputError
from synccache.engine.types import Action, Decision, Run, Seen, Step
from synccache.gates import Listed, Magnitudes, Warmup, replay
from synccache.gates.magnitude import nearest
from synccache.methods import RECIPES
from synccache.methods.l2p import RELEASED, steps_to_compute
from synccache.methods.magcache import magnitude_ratios, published
from synccache.planner import learn_profile


def computed(gate, steps):
    return [i for i, c in enumerate(replay(gate, [None] * steps)) if c]


# -- MagCache's gate ---------------------------------------------------------------------------------------------


def test_drift_adds_up_and_starts_again_when_a_step_is_computed():
    """gamma 0.9: after a computed step |1 - P| is .1, .19, .271, and its sum .1, .29, .561."""
    ratios = (1.0, *[0.9] * 9)
    assert computed(Magnitudes(ratios, 0.05), 10) == list(range(10))
    assert computed(Magnitudes(ratios, 0.1 - 1e-9), 10) == list(range(10))
    assert computed(Magnitudes(ratios, 0.2), 10) == [0, 2, 4, 6, 8]
    assert computed(Magnitudes(ratios, 0.3), 10) == [0, 3, 6, 9]
    assert computed(Magnitudes(ratios, 0.3, max_skips=1), 10) == [0, 2, 4, 6, 8]
    assert computed(Magnitudes(ratios, 0.3, max_skips=0), 10) == list(range(10))


def test_a_ratio_and_its_inverse_leave_no_drift_but_their_errors_stay():
    gate, state = Magnitudes((1.0, 0.5, 2.0, 1.0), 1.0), None
    state = gate.init(Run(4))
    for step, (error, total) in enumerate([(0, 0), (0.5, 0.5), (0.0, 0.5), (0.0, 0.5)]):
        decision, state = gate.decide(state, Step(step), Seen())
        assert (decision.error, decision.total, decision.fills) == (error, total, True)
        state = gate.record(state, Step(step), decision, Seen())
    assert state.skips == 4 and gate.record(state, Step(4), Decision(Action.COMPUTE), Seen()).skips == 0


def test_the_error_at_the_threshold_is_computed():
    assert computed(Magnitudes((1.0, 0.5, 1.0), 0.5), 3) == [0, 1]
    assert computed(Magnitudes((1.0, 0.5, 1.0), 0.5 + 1e-9), 3) == [0, 2]


def test_a_warm_up_leaves_nothing_in_the_sum():
    ratios = (1.0, *[0.9] * 7)
    assert computed(Warmup(Magnitudes(ratios, 0.2), 4), 8) == [0, 1, 2, 3, 5, 7]


def test_the_rule_is_the_releases():
    """Its loop over one branch, written anew: counters are kept from the warm-up's end on."""
    gamma, threshold, most = published()["wan2.1-t2v-14b"], 0.24, 6
    product, error, skips, expected = 1.0, 0.0, 0, []
    for step, ratio in enumerate(gamma):
        skip = False
        if step >= 10:
            product, skips = product * ratio, skips + 1
            error += abs(1 - product)
            skip = error < threshold and skips <= most
            if not skip:
                product, error, skips = 1.0, 0.0, 0
        expected += [] if skip else [step]
    assert computed(Warmup(Magnitudes(gamma, threshold, most), 0.2), 50) == expected
    with synccache.cached(Pipeline(Video()), "magcache", ratios="wan2.1-t2v-14b", threshold=0.24, max_gap=7) as handle:
        assert computed(handle.method.gate, 50) == expected
    assert len(expected) == 18  # 2.8 times fewer, as the release says of its speed


def test_another_number_of_steps_takes_the_nearest_ratios():
    five = (0.0, 1.0, 2.0, 3.0, 4.0)
    assert nearest(five, 5) == five and nearest(five, 3) == (0.0, 2.0, 4.0) and nearest(five, 2) == (0.0, 4.0)
    assert nearest(five, 9) == (0, 0, 1, 2, 2, 2, 3, 4, 4)  # halves to the even one, as numpy rounds
    assert nearest(five, 1) == (0.0,) and nearest((), 4) == ()
    gate = Magnitudes((1.0, 1.0, 0.5, 0.5), 0.1)
    assert gate.init(Run(2)).ratios == (1.0, 0.5) and gate.init(Run(None)).ratios == gate.ratios


def test_steps_beyond_the_known_ones_are_computed():
    gate = Magnitudes((1.0, 1.0), 0.1)
    decisions = [gate.decide(gate.init(Run(None)), Step(i), Seen())[0].fills for i in range(4)]
    assert decisions == [True, True, False, False]


def test_a_second_evaluation_of_a_step_counts_no_drift():
    gate = Magnitudes((1.0, 0.9, 0.9), 1.0)
    _, state = gate.decide(gate.init(Run(3)), Step(1), Seen())
    decision, again = gate.decide(state, Step(1, evaluation=1), Seen())
    assert decision.fills and again == state and state.product == 0.9


# -- MagCache's ratios -------------------------------------------------------------------------------------------


def test_ratios_are_the_mean_over_tokens_of_the_quotient_of_norms():
    residuals = torch.tensor([[[3.0, 4.0], [0.0, 2.0]], [[6.0, 8.0], [0.0, 1.0]], [[0.0, 5.0], [3.0, 4.0]]])
    # norms 5, 2 -> 10, 1 -> 5, 5: quotients 2 and 1/2; 1/2 and 5
    assert magnitude_ratios(residuals).tolist() == [1.0, 1.25, 2.75]
    residuals[0, 1] = 0  # a token without a residual says nothing
    assert magnitude_ratios(residuals).tolist() == [1.0, 2.0, 2.75]


class Fading(nn.Module):
    """One block whose residual shrinks by 0.9 a step, whatever the latent is."""

    def __init__(self):
        super().__init__()
        self.block = Shift()

    def forward(self, hidden_states, timestep):
        return self.block(hidden_states, 0.9 ** (10 - timestep).reshape(-1, 1, 1))


class Shift(nn.Module):
    def forward(self, hidden_states, size):
        return hidden_states + size * torch.arange(1, 7.0).reshape(1, 2, 3)


def test_learning_finds_a_planted_fading():
    model, steps = Fading(), torch.arange(10.0, 0, -1)
    anatomy = Anatomy("fading", (model.block,), sites=())

    def run():
        return [model(torch.randn(1, 2, 3), t[None]) for t in steps]

    made = learn_profile(model, "magcache", run, anatomy=anatomy, steps=10)
    torch.testing.assert_close(made.tensors["ratios"], torch.tensor([1.0, *[0.9] * 9]).double(), rtol=0, atol=1e-5)
    # .1, .29 and .561 with a threshold of .3: two skips at a time, behind two steps of warm-up
    with torch.no_grad(), synccache.cached(
        model, "magcache", profile=made, anatomy=anatomy, steps=10, threshold=0.3
    ) as handle:  # fmt: skip
        run()
        assert [i for i, d in enumerate(handle.trace.decisions()) if d == "computed"] == [0, 1, 4, 7]


def test_published_ratios_say_where_they_come_from_and_look_as_they_should():
    text = (files("synccache.methods") / "data" / "magcache.json").read_text(encoding="utf-8")
    assert "github.com/Zehong-Ma/MagCache at df81cb18" in json.loads(text)["source"]
    for name, ratios in published().items():
        assert len(ratios) in (40, 50) and ratios[0] == 1 and all(0.6 < r < 1.3 for r in ratios), name
    assert {n.split("-")[0] for n in published()} == {"wan2.1", "wan2.2", "hunyuan"}
    assert published()["hunyuan-video-720p"][-1] == 0.75456 and published()["wan2.1-t2v-1.3b"][1] == 1.0124


def test_hunyuan_videos_ratios_are_found_by_themselves_and_wans_have_to_be_named():
    blocks = tuple(Video().blocks)
    with synccache.cached(Video(), "magcache", anatomy=Anatomy("hunyuan-video", blocks)) as handle:
        gate = handle.method.gate.gate
        assert gate == Magnitudes(published()["hunyuan-video-720p"], 0.24, 6)
    for given in ({}, {"ratios": "wan"}):
        with pytest.raises(InputError, match=r"synccache profile --method magcache.*one of wan2\.1-t2v-1\.3b"):
            synccache.apply(Video(), "magcache", anatomy=Anatomy("wan", blocks), **given)
    with pytest.raises(InputError, match="ratios=3"):
        synccache.apply(Video(), "magcache", ratios=3)


def test_settings_with_published_ratios_can_be_saved(tmp_path):
    with synccache.cached(Video(), "magcache", ratios="wan2.2-t2v-a14b") as handle:
        kept = handle.save(tmp_path / "settings.json")
    with synccache.cached(Video(), settings=kept) as again:
        assert again.method == handle.method


def test_max_gap_off_is_any_number_of_skips():
    still = {"threshold": 1e9, "warmup": 0}
    for gap, most in ((0, None), (1, 0), (3, 2)):
        with synccache.cached(Video(), "magcache", ratios="wan2.1-t2v-14b", max_gap=gap, **still) as handle:
            assert handle.method.gate.max_skips == most


# -- L2P ---------------------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    """Returns, at step i, ``sum_k c_k^i v_k`` for three c: a linear recurrence of order three, whatever the latent."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Identity()])
        self.anatomy = Anatomy("recurrent", tuple(self.blocks))
        self.calls = 0
        self.parts = torch.randn(3, 1, 4, 6, generator=torch.Generator().manual_seed(0))

    def forward(self, hidden_states, timestep):
        self.calls += 1
        step = 12 - float(timestep)
        self.blocks[0](hidden_states)
        return sum(c**step * part for c, part in zip((0.95, 0.6, -0.4), self.parts, strict=True))


def run_recurrent(model, steps=12):
    return [model(torch.zeros(1, 4, 6), torch.tensor([12.0 - i])) for i in range(steps)]


@pytest.fixture(scope="module")
def rows():
    model = Recurrent()
    return learn_profile(model, "l2p", lambda: run_recurrent(model), anatomy=model.anatomy, steps=12)


def test_a_planted_recurrence_is_continued_and_the_model_is_not_called(rows):
    model = Recurrent()
    whole = torch.stack(run_recurrent(model))
    model.calls = 0
    given = {"profile": rows, "steps": 12, "schedule": [0, 1, 2, 3], "anatomy": model.anatomy}
    with torch.no_grad(), synccache.cached(model, "l2p", **given) as handle:
        out = torch.stack(run_recurrent(model))
    assert model.calls == 4 and handle.trace.skipped() == 8
    for step in range(12):  # exact but for the slight pull towards reuse, which adds up along the rollout
        assert distance(out[step], whole[step]) < 0.02, step


def test_rows_beat_reuse_on_a_pipeline():
    pipe = Pipeline(Video())
    profile = learn_profile(pipe, "l2p", lambda: pipe(steps=30))
    plain, errors = pipe(steps=30, seed=3), {}
    with synccache.cached(pipe, "l2p", profile=profile) as handle:
        errors["l2p"] = distance(pipe(steps=30, seed=3), plain)
        schedule = handle.method.gate.schedule
        method = synccache.Method(handle.method.gate, handle.method.scope, synccache.forecasters.Reuse())
    with synccache.cached(pipe, method):
        errors["reuse"] = distance(pipe(steps=30, seed=3), plain)
    assert errors["l2p"] < errors["reuse"] / 3 and len(schedule) == len(steps_to_compute(5, 30)) == 10


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("name", ["schedule", "searched"])
def test_searched_steps_beat_even_spacing(name, order):
    pipe = Pipeline(Video())
    profile = learn_profile(pipe, name, lambda: pipe(steps=30))
    plain, errors = pipe(steps=30, seed=3), {}
    with synccache.cached(pipe, name, order=order, computed_steps=8, profile=profile) as handle:
        searched = handle.method
    evenly = replace(searched, gate=Listed(frozenset({0, 4, 8, 12, 16, 21, 25, 29})))
    for method in (searched, evenly):
        with synccache.cached(pipe, method) as handle:
            pipe(steps=30)  # where its sites are found
            errors[method] = distance(pipe(steps=30, seed=3), plain)
            assert handle.trace.computed() == 8
    assert errors[searched] < errors[evenly]
    with synccache.cached(pipe, searched), pytest.raises(InputError, match="of 30 steps, and this run has 12"):
        pipe(steps=12)


def test_released_schedules_are_kept_at_50_steps_and_scaled_elsewhere():
    for interval, schedule in RELEASED.items():
        assert steps_to_compute(interval, 50) == schedule
        for total in (8, 20, 40, 100):
            scaled = steps_to_compute(interval, total)
            assert scaled[0] == 0 and scaled[-1] < total and len(scaled) <= len(schedule)
    assert steps_to_compute(5, 99) == tuple(2 * i for i in RELEASED[5])
    assert steps_to_compute(2, 9) == (0, 1, 2, 4, 6, 8) and steps_to_compute(4, 2) == (0, 1)


def test_another_number_of_steps_is_refused(rows):
    model = Recurrent()
    given = {"profile": rows, "anatomy": model.anatomy}
    with torch.no_grad():
        for steps, says in ((11, "this run has 11"), (None, "nobody tells how long this run is")):
            refused = pytest.raises(InputError, match=f"for runs of 12 steps, and {says}.*--steps N")
            with synccache.cached(model, "l2p", steps=steps, **given), refused:
                run_recurrent(model)
        with synccache.cached(model, "l2p", steps=12, warmup=3, max_gap=4, **given) as handle:
            run_recurrent(model)
            assert handle.trace.skipped() > 0


def test_without_a_profile_it_says_how_to_get_one():
    with pytest.raises(InputError, match=r"'l2p' needs profile=.*synccache profile --method l2p"):
        synccache.apply(Video(), "l2p")


@pytest.mark.parametrize("name", ["magcache", "l2p"])
def test_learnt_on_a_model_with_in_place_injections(name):
    """On Wan-S2V's structure, in two guidance branches, from file to use."""
    model, inputs = WanModel_S2V().eval(), s2v_inputs()

    def run():
        for t in torch.linspace(1000, 50, 20).tolist():
            for audio in (inputs.audio_input, torch.zeros(1, 16)):
                out = model(inputs.x, torch.tensor([t]), inputs.context, None, audio, inputs.ref_latents)
        return out[0]

    made = learn_profile(model, name, run, steps=20)
    assert made.steps == 20 and made.model["sites"] == [0, 2, 4, 6]
    with torch.no_grad(), synccache.cached(model, name, profile=made, steps=20) as handle:
        assert torch.isfinite(run()).all() and handle.trace.skipped() > 5


def test_what_they_say_of_themselves():
    for name in ("magcache", "l2p"):
        info = RECIPES[name].info()
        assert info["learns"] and "profile" in info["needs"] and info["settings"]["profile"] is None
