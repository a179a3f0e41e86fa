"""Profiles and plans."""

import itertools
import json
from dataclasses import replace

import pytest
import torch
from toys import Pipeline, TwoStream, Video, WanModel_S2V, s2v_inputs

import synccache
from synccache import Anatomy, InputError, Plan
from synccache.anatomies import find


def run_s2v(model, steps=6, seed=0):
    inputs, silent = s2v_inputs(seed), torch.zeros(1, 16)
    with torch.no_grad():
        for t in torch.linspace(1000, 200, steps).tolist():
            for audio in (inputs.audio_input, silent):
                model(inputs.x, torch.tensor([t]), inputs.context, None, audio, inputs.ref_latents)


@pytest.fixture(scope="module")
def plan():
    model = WanModel_S2V().eval()
    return synccache.profile(model, lambda: run_s2v(model), source={"made for": "tests"})


def test_a_profile_skips_nothing_and_leaves_nothing_attached(plan):
    model = WanModel_S2V()
    seen = []
    model.blocks[3].register_forward_hook(lambda *_: seen.append(1))
    synccache.profile(model, lambda: run_s2v(model))
    assert len(seen) == 12 and type(model) is WanModel_S2V
    assert plan.steps == 6 and plan.errors[0] is None and all(e > 0 for e in plan.errors[1:])
    assert plan.model == {"anatomy": "wan-s2v", "blocks": 7, "sites": [0, 2, 4, 6], "width": 16}
    assert plan.ends == (2, 4, 6) and plan.timesteps[0] == 1000


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

            def watch(call, region, stream, anchor, wanted=wanted, stored=stored):
                if region.id == wanted:
                    stored.setdefault(call.position.branch, []).append(anchor.value.clone())

            handle.engine.on_anchor = watch
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
    twice = synccache.profile(model, lambda: [run_s2v(model) for _ in range(2)])
    assert twice.errors == pytest.approx(plan.errors)
    for row, doubled in zip(plan.gamma, twice.gamma, strict=True):
        assert doubled == pytest.approx([2 * g for g in row], rel=1e-5)


def test_no_segment_reaches_from_blocks_of_one_kind_to_another():
    """The toy's single blocks carry both streams in one: neither stream's sums go on into them."""
    model, noise, text = TwoStream().eval(), torch.randn(3, 1, 6, 8), torch.randn(1, 2, 8)
    anatomy = replace(find(model), sites=(2,))
    plan = synccache.profile(
        model, lambda: [model(x, text, torch.tensor([9.0 - n])) for n, x in enumerate(noise)], anatomy=anatomy
    )
    assert plan.ends == (2, 3, 6)
    assert [[g > 0 for g in row[j + 1 :]] for j, row in enumerate(plan.gamma)] == [[1, 1, 0], [1, 0], [1], []]
    with synccache.cached(model, "synccache", plan=plan, cache_ratio=0.9, anatomy=anatomy) as handle:
        assert [r.last for r in handle.regions] == [3, 6]


def test_boundaries_come_from_the_path_and_reach_the_regions(plan):
    assert plan.boundaries(1) == () and plan.boundaries(3) == (2, 4)
    costs = {b: plan.gamma[0][n] + plan.gamma[n][3] for n, b in ((1, 2), (2, 4))}
    assert plan.boundaries(2) == (min(costs, key=costs.get),)
    assert plan.random_boundaries(2, 0)[0] in (2, 4)
    with pytest.raises(InputError, match="4 segments were asked for; the plan has 1 to 3"):
        plan.boundaries(4)
    with synccache.cached(WanModel_S2V(), "synccache", plan=plan, cache_ratio=0.5) as handle:
        assert tuple(r.last for r in handle.regions[:-1]) == plan.boundaries(2)


def test_a_plan_gives_the_number_of_computed_steps(plan):
    from synccache.gates import Last, Threshold, Warmup, replay

    for wanted in (2, 3, 4, 5):
        threshold = plan.threshold(wanted, warmup=None, last=None)
        assert sum(replay(Threshold(threshold), plan.errors)) == wanted
    threshold = plan.threshold(4, warmup=1, last=1)
    assert sum(replay(Warmup(Last(Threshold(threshold), 1), 1), plan.errors)) == 4


def test_with_a_plan_the_first_run_keeps_to_computed_steps():
    pipe = Pipeline(Video())
    made = synccache.profile(pipe, lambda: pipe(steps=20))
    assert made.scheduler == "EulerScheduler" and len(made.sigmas) == 21
    with synccache.cached(pipe, "synccache", computed_steps=8, plan=made) as handle:
        pipe(steps=20)
        assert handle.trace.computed() in (7, 8, 9)
        pipe(steps=40)
        assert handle.trace.computed() in (7, 8, 9)


def test_plans_round_trip(plan, tmp_path):
    path = plan.save(tmp_path / "plan.json")
    assert Plan.load(path) == Plan(**{**vars(plan), "model": dict(plan.model), "source": dict(plan.source)})
    with synccache.cached(WanModel_S2V(), "synccache", plan=str(path), cache_ratio=0.5) as handle:
        assert len(handle.regions) == 2


def test_a_plan_of_another_model_is_refused(plan):
    for other in (WanModel_S2V(layers=8), WanModel_S2V(dim=8), WanModel_S2V(sites=(0, 3, 6)), Video()):
        with pytest.raises(InputError, match="The plan was made for a model with"):
            synccache.apply(other, "synccache", plan=plan)
    plan.check(Anatomy("wan-s2v", tuple(WanModel_S2V().blocks)))


@pytest.mark.parametrize(
    "change",
    [
        {"gamma": [[0]]}, {"gamma": "no"}, {"errors": ["a"]}, {"errors": [None, float("nan")]}, {"ends": None},
        {"model": 3}, {"version": 2}, {"schema": "x"},
    ],
)  # fmt: skip
def test_broken_plan_files_are_refused(plan, tmp_path, change):
    path = plan.save(tmp_path / "plan.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=r"plan\.json"):
        Plan.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not a JSON file"):
        Plan.load(path)


def test_a_profile_of_nothing_says_so():
    with pytest.raises(InputError, match="made 0 steps"):
        synccache.profile(Video(), lambda: None)
