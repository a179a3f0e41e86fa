"""Plans: what one run tells about segments, and what comes of it."""

import itertools
from dataclasses import replace

import pytest
import torch

import synccache
from synccache import Anatomy, InputError
from synccache.anatomies import find
from synccache.planner import learn_profile, plan_of
from synccache.profiles import Plan, Profile
from synccache.testing import Pipeline, TwoStream, Video, WanModel_S2V, s2v_inputs


def run_s2v(model, steps=6, seed=0):
    inputs, silent = s2v_inputs(seed), torch.zeros(1, 16)
    with torch.no_grad():
        for t in torch.linspace(1000, 200, steps).tolist():
            for audio in (inputs.audio_input, silent):
                model(inputs.x, torch.tensor([t]), inputs.context, None, audio, inputs.ref_latents)


def drifting(steps, *shape):
    """[steps, *shape] latents of one run: each is the one before, moved on a little."""
    return torch.randn(shape) + 0.1 * torch.randn(steps, *shape).cumsum(0)


@pytest.fixture(scope="module")
def learnt():
    model = WanModel_S2V().eval()
    return learn_profile(model, "synccache", lambda: run_s2v(model), source={"made for": "tests"})


@pytest.fixture(scope="module")
def plan(learnt):
    return Plan.of(learnt.tensors)


def test_watching_segments_skips_nothing_and_leaves_nothing_attached(plan, learnt):
    model = WanModel_S2V().eval()
    seen = []
    model.blocks[3].register_forward_hook(lambda *_: seen.append(1))
    assert plan_of(model, lambda: run_s2v(model)) == plan
    assert len(seen) == 12 and type(model) is WanModel_S2V
    assert len(plan.errors) == 6 and plan.errors[0] is None and all(e > 0 for e in plan.errors[1:])
    assert learnt.model == {"anatomy": "wan-s2v", "blocks": 7, "sites": [0, 2, 4, 6], "width": 16}
    assert plan.ends == (2, 4, 6) and learnt.timesteps[0] == 1000 and learnt.source == {"made for": "tests"}


def test_gamma_is_the_sum_of_relative_changes_of_what_is_stored(plan):
    """By hand, from the residuals that the engine stores when the segments are merged."""
    model = WanModel_S2V().eval()
    for (j, k), boundaries in {(0, 3): [], (0, 2): [4], (1, 3): [2], (0, 1): [2, 4]}.items():
        stored: dict = {}
        method = synccache.Method(
            synccache.gates.Never(synccache.gates.Probe()),
            synccache.scopes.Segments(boundaries=tuple(boundaries)),
            synccache.forecasters.Reuse(),
        )
        with synccache.cached(model, method) as handle:
            wanted = f"blocks {[1, 3, 5][j]}-{plan.ends[k - 1]}"

            def watch(shown, wanted=wanted, stored=stored):
                if shown.region.id == wanted:
                    stored.setdefault(shown.branch, []).append(shown.value.clone())
                return True

            handle.on_store = watch
            run_s2v(model)
        by_hand = sum(
            float((b - a).abs().sum() / a.abs().sum())
            for series in stored.values()
            for a, b in itertools.pairwise(series)
        )
        assert len(stored) == 2
        assert plan.gamma[j][k] == pytest.approx(by_hand, rel=1e-4)


def test_runs_are_not_compared_with_each_other(plan):
    """A second, equal run doubles every sum: its first step has nothing before it."""
    model = WanModel_S2V().eval()
    twice = plan_of(model, lambda: [run_s2v(model) for _ in range(2)])
    assert twice.errors == pytest.approx(plan.errors)
    for row, doubled in zip(plan.gamma, twice.gamma, strict=True):
        assert doubled == pytest.approx([2 * g for g in row], rel=1e-5)


def test_no_segment_reaches_from_blocks_of_one_kind_to_another():
    """The toy's single blocks carry both streams in one: neither stream's sums go on into them."""
    model, noise, text = TwoStream().eval(), drifting(3, 1, 6, 8), torch.randn(1, 2, 8)
    anatomy = replace(find(model), sites=(2,))
    learnt = learn_profile(
        model, "synccache", lambda: [model(x, text, torch.tensor([9.0 - n])) for n, x in enumerate(noise)],
        anatomy=anatomy,
    )  # fmt: skip
    plan = Plan.of(learnt.tensors)
    assert plan.ends == (2, 3, 6)
    assert [[g > 0 for g in row[j + 1 :]] for j, row in enumerate(plan.gamma)] == [[1, 1, 0], [1, 0], [1], []]
    with synccache.cached(model, "synccache", plan=learnt, cache_ratio=0.9, anatomy=anatomy) as handle:
        assert [r.last for r in handle.regions] == [3, 6]


def test_boundaries_come_from_the_path_and_reach_the_regions(plan, learnt):
    assert plan.boundaries(1) == () and plan.boundaries(3) == (2, 4)
    costs = {b: plan.gamma[0][n] + plan.gamma[n][3] for n, b in ((1, 2), (2, 4))}
    assert plan.boundaries(2) == (min(costs, key=costs.get),)
    with pytest.raises(InputError, match="4 segments were asked for; the plan has 1 to 3"):
        plan.boundaries(4)
    with synccache.cached(WanModel_S2V(), "synccache", plan=learnt, cache_ratio=0.5) as handle:
        assert tuple(r.last for r in handle.regions[:-1]) == plan.boundaries(2)


def test_with_a_profile_any_run_keeps_to_computed_steps():
    pipe = Pipeline(Video())
    made = learn_profile(pipe, "synccache", lambda: pipe(steps=20))
    with synccache.cached(pipe, "synccache", computed_steps=8, profile=made) as handle:
        pipe(steps=20)
        assert handle.trace.computed() == 8
        pipe(steps=40)
        assert handle.trace.computed() == 8


def test_files_round_trip_and_serve_under_either_name(plan, learnt, tmp_path):
    path = learnt.save(tmp_path / "profile.safetensors")
    assert Plan.of(Profile.load(path).tensors) == plan
    for name in ("plan", "profile"):
        with synccache.cached(WanModel_S2V(), "synccache", **{name: str(path)}, cache_ratio=0.5) as handle:
            assert len(handle.regions) == 2 and handle.settings[name] == str(path)
            saved = handle.save(tmp_path / "settings.json")
        with synccache.cached(WanModel_S2V(), settings=saved) as again:
            assert again.regions == handle.regions


def test_a_method_by_hand_and_one_that_learns_something_else_take_it_too(plan, learnt):
    method = synccache.Method(
        synccache.gates.Interval(2), synccache.scopes.Segments(0.5), synccache.forecasters.Reuse()
    )
    with synccache.cached(WanModel_S2V(), method, plan=learnt) as handle:
        assert tuple(r.last for r in handle.regions[:-1]) == plan.boundaries(2)
    model = WanModel_S2V()
    own = learn_profile(model, "schedule", lambda: run_s2v(model))
    with synccache.cached(model, "schedule", profile=[learnt, own], computed_steps=3, cache_ratio=0.5) as handle:
        assert tuple(r.last for r in handle.regions[:-1]) == plan.boundaries(2)


def test_what_does_not_belong_together_is_refused(learnt):
    for other in (WanModel_S2V(layers=8), WanModel_S2V(dim=8), WanModel_S2V(sites=(0, 3, 6)), Video()):
        with pytest.raises(InputError, match="The profile was made for a model with"):
            synccache.apply(other, "synccache", plan=learnt)
    learnt.check(Anatomy("wan-s2v", tuple(WanModel_S2V().blocks)))
    with pytest.raises(InputError, match="2 profiles with segments to merge were given"):
        synccache.apply(WanModel_S2V(), "synccache", plan=learnt, profile=learnt)
    pipe = Pipeline(Video())
    made = learn_profile(pipe, "synccache", lambda: pipe(steps=4))
    with pytest.raises(InputError, match="made with a Other, and this pipeline has a EulerScheduler"):
        synccache.apply(pipe, "synccache", profile=replace(made, scheduler="Other"))


@pytest.mark.parametrize(
    "change",
    [
        {"gamma": torch.zeros(1, 1)}, {"gamma": -torch.ones(4, 4)}, {"ends": torch.tensor([4, 2, 6])},
        {"ends": torch.zeros(2, 2)}, {"errors": torch.tensor(1.0)},
    ],
)  # fmt: skip
def test_segments_that_do_not_fit_together_are_refused(learnt, change):
    broken = replace(learnt, tensors={**learnt.tensors, **change})
    with pytest.raises(InputError, match=r"segments don't fit together.*learn_profile\(pipe, 'synccache'"):
        synccache.apply(WanModel_S2V(), "synccache", plan=broken)


def test_a_run_of_nothing_says_so():
    with pytest.raises(InputError, match="made 0 steps"):
        plan_of(Video(), lambda: None)
