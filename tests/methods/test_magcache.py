"""MagCache: the gate by hand, what it learns, the published ratios."""

import json
from dataclasses import replace
from importlib.resources import files

import pytest
import torch
from torch import nn

import synccache
from synccache import Anatomy, InputError
from synccache.core.types import Action, Decision, Run, Seen, Step
from synccache.gates import Magnitudes, Warmup, replay
from synccache.gates.magnitude import nearest
from synccache.methods.magcache import magnitude_ratios, published
from synccache.planner import learn_profile
from synccache.portrait.pipeline import PortraitPipeline
from synccache.testing import Pipeline, Video


def computed(gate, steps):
    return [i for i, c in enumerate(replay(gate, [None] * steps)) if c]


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
        with pytest.raises(InputError, match=r"one of wan2\.1-t2v-1\.3b.*learn_profile\(pipe, 'magcache'"):
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


def test_explicit_ratios_go_before_a_shipped_profile_and_not_beside_a_users():
    pipe = PortraitPipeline.load()
    with synccache.cached(pipe, "magcache") as handle:
        shipped = handle.method.gate.gate
    assert len(shipped.ratios) == 40 and shipped.timesteps[0] == 999
    with synccache.cached(pipe, "magcache", ratios="wan2.2-t2v-a14b") as handle:
        assert handle.method.gate.gate.ratios == published()["wan2.2-t2v-a14b"]
    with pytest.raises(InputError, match="ratios='wan' are not among the published ones"):
        synccache.apply(pipe, "magcache", ratios="wan")
    video = Pipeline(Video())
    made = learn_profile(video, "magcache", lambda: video(steps=12))
    with pytest.raises(InputError, match="Give ratios or profile, not both"):
        synccache.apply(video, "magcache", ratios="wan2.1-t2v-14b", profile=made)


def test_a_profile_goes_before_the_models_default_and_can_be_saved(tmp_path):
    pipe = Pipeline(Video())
    anatomy = Anatomy("hunyuan-video", tuple(pipe.transformer.blocks))
    made = learn_profile(pipe, "magcache", lambda: pipe(steps=12), anatomy=anatomy)
    path = made.save(tmp_path / "p.safetensors")
    with synccache.cached(pipe, "magcache", profile=path, anatomy=anatomy) as handle:
        assert handle.method.gate.gate.ratios == tuple(made.tensors["ratios"].tolist())
        kept = handle.save(tmp_path / "settings.json")
    with synccache.cached(pipe, settings=kept, anatomy=anatomy) as again:
        assert again.method == handle.method


def test_a_run_as_long_as_the_profiled_one_has_its_timesteps():
    pipe = Pipeline(Video())
    made = learn_profile(pipe, "magcache", lambda: pipe(steps=12))
    with synccache.cached(pipe, "magcache", profile=made):
        pipe(steps=12)
        pipe(steps=9)  # takes the nearest ratios
    moved = replace(made, timesteps=tuple(1000 * (t / 1000) ** 0.5 for t in made.timesteps))
    with synccache.cached(pipe, "magcache", profile=moved):
        pipe(steps=9)
        with pytest.raises(InputError, match=r"step 1 has the timestep 957.*; this run's has 916"):
            pipe(steps=12)
