"""Methods that differ in where they fill in: which steps, which parts, what is stored."""

import pytest
import torch
from torch import nn

import synccache
from synccache import InputError
from synccache.core.types import Action, Decision, Region, Run, Seen, Step
from synccache.gates import Refresh, Turn
from synccache.methods import RECIPES, complete
from synccache.profiles import Profile
from synccache.scopes import BlockRuns
from synccache.testing import AddBlock, AddModel, Pipeline, Video

X = torch.full((1, 2, 3), 20.0)


def call(model, timestep, level):
    with torch.no_grad():
        out = model(X.clone(), torch.tensor([float(timestep)]), torch.tensor(float(level)))
    return float(out.flatten()[0])


def computed(handle):
    return [i for i, d in enumerate(handle.trace.decisions()) if d == "computed"]


@pytest.mark.parametrize(
    ("name", "settings", "steps", "expected"),
    [
        ("fora", {}, 10, [0, 3, 6, 9]),
        ("fora", {}, 12, [0, 3, 6, 9, 11]),  # as many as the release has, which counts from the end: 11, 8, 5, 2, 0
        ("taylorseer", {}, 20, [0, 1, 2, 7, 12, 17]),  # forecasting.md: {0..E-1} and {E-1+jN}
        ("taylorseer", {"warmup": 1}, 20, [0, 5, 10, 15]),
        ("taylorseer-lite", {}, 20, [0, 1, 2, 7, 12, 17]),
        ("delta-dit", {}, 9, [0, 2, 4, 6, 8]),
        ("profilingdit", {"blocks": [1, 2]}, 50, [0, 1, 2, 3, 4, 5, 6, 18, 26, 32, 38, 42, 46, 48]),
        ("profilingdit", {"blocks": [1, 2]}, 25, [0, 1, 2, 3, 9, 13, 16, 19, 21, 23, 24]),
        ("uncond-reuse", {}, 20, [0, 1, 2, 3, 4, 5, 6, 11, 16, 19]),
    ],
)
def test_which_steps_are_computed(name, settings, steps, expected):
    pipe = Pipeline(Video(layers=3))
    with synccache.cached(pipe, name, **settings) as handle:
        pipe(steps=steps)
        assert computed(handle) == expected


@pytest.mark.parametrize(
    ("name", "settings", "regions", "anchors"),
    [
        ("fora", {"attention": False}, 5, 1),  # a feed-forward module in each of the five blocks
        ("taylorseer", {"attention": False}, 5, 2),
        ("taylorseer", {"attention": False, "order": 2}, 5, 3),
        ("taylorseer-lite", {}, 1, 3),
        ("delta-dit", {}, 3, 1),  # 4 of 5 blocks each: front, what both share, rear
        ("delta-dit", {"share": 0.4}, 2, 1),
        ("profilingdit", {"blocks": [0, 1, 3]}, 2, 1),
    ],
)
def test_what_is_stored(name, settings, regions, anchors):
    pipe = Pipeline(Video())
    with synccache.cached(pipe, name, **settings) as handle:
        pipe(steps=20)
        assert len(handle.regions) == regions
        assert handle.trace.bytes_peak == 2 * regions * anchors * 32 * 8 * 4  # two branches, 32 tokens of 8 floats


def test_the_unconditional_branch_costs_one_output_and_what_it_is_told_from():
    pipe = Pipeline(Video())
    with synccache.cached(pipe, "uncond-reuse") as handle:
        pipe(steps=20)
        assert handle.trace.bytes_peak == 2 * 4 * 2 * 4 * 4 * 4
        reasons = {(r.branch, r.reason) for r in handle.trace if r.decision == "skipped"}
        assert reasons == {(0, "every 5"), (1, "guidance")}


def test_the_unconditional_branch_follows_the_conditional_one():
    model = AddModel()
    with synccache.cached(model, "uncond-reuse", warmup=0, last=0):
        assert [call(model, 1000, 4), call(model, 1000, 1)] == [44, 26]
        assert [call(model, 900, 9), call(model, 900, 1)] == [74, 56]


# -- Δ-DiT -----------------------------------------------------------------------------------------------------------


def test_the_rear_is_left_out_first_and_the_front_later():
    model = AddModel((1, 2, 3, 4))
    levels = [1, 10, 100, 1000, 2, 20, 1, 10, 100]
    # on a computed step 10 times the level; up to step 4 the first block live and 9 of step 0 or 3; then the last one
    # live, behind the first block's newest value (step 4's: it ran) and those of the two in the middle (step 3's)
    added = [10, 10 + 9, 100 + 9, 10_000, 2 + 9_000, 2 + 5_000 + 80, 10, 6 + 40, 6 + 400]
    ran = []
    with synccache.cached(model, "delta-dit", share=0.75, turn=0.5, interval=3, steps=10) as handle:
        for index, level in enumerate(levels):
            before = [b.calls for b in model.blocks]
            assert call(model, 1000 - index, level) == 20 + added[index]
            ran.append([b.calls - n for b, n in zip(model.blocks, before, strict=True)])
        first, last, every = [1, 0, 0, 0], [0, 0, 0, 1], [1] * 4
        assert ran == [every, first, first, every, first, last, every, last, last]
        assert computed(handle) == [0, 3, 6]


def test_after_the_turn_a_front_span_is_as_new_as_it_last_ran():
    """It ran on every step before the turn; what is filled in is its newest value, not that of the full step."""
    model = AddModel((1, 2))
    with synccache.cached(model, "delta-dit", share=0.5, turn=2, interval=9, steps=9):
        assert [call(model, 1000, 1), call(model, 900, 10)] == [23, 20 + 10 + 2]
        assert call(model, 800, 100) == 20 + 10 + 200


def test_regions_that_are_cut_anew_are_planned_for_anew():
    """A block that can't be left out is found on the first step; from the second on, spans end there."""

    class Widening(AddBlock):
        wide = False

        def forward(self, hidden_states, level):
            out = super().forward(hidden_states, level)
            return torch.cat([out, out], dim=1) if self.wide else out

    model = AddModel()
    model.blocks = nn.ModuleList(Widening(w) for w in (1, 2, 0, 4))
    model.blocks[2].wide = True
    anatomy = synccache.Anatomy("widening", tuple(model.blocks))
    with synccache.cached(model, "delta-dit", anatomy=anatomy, share=0.5, turn=0.5, steps=20) as handle:
        outs = [call(model, 1000 - index, level) for index, level in enumerate((1, 10, 100, 1000))]
        assert [r.id for r in handle.regions] == ["front 0-1", "rear 3-3"]
        assert handle.trace.decisions() == ["computed", "computed", "skipped", "computed"]
        assert outs == [27, 90, 20 + 300 + 40, 7020]


def test_turn_alone():
    regions = tuple(Region(f"{name} {i}-{i}", (i,)) for i, name in enumerate(("front", "middle", "rear")))
    gate = Turn(2, turn=0.5)
    state = gate.init(Run(8, regions=regions))
    state = gate.record(state, Step(0), Decision(Action.COMPUTE), Seen())

    def filled(index, total=8):
        decision, _ = gate.decide(state, Step(index, total=total), Seen())
        return decision.fills and [r.id[0] for r in regions if decision.of(r) is Action.FILL]

    assert [filled(i) for i in (1, 2)] == [["m", "r"], False]
    state = gate.record(state, Step(4), Decision(Action.COMPUTE), Seen())
    assert filled(5) == ["f", "m"] and filled(5, total=20) == ["m", "r"] and filled(5, total=None) == ["m", "r"]
    others = (Region("blocks 0-3", (0,)),)  # another scope's: all of them, whatever the step
    decision, _ = gate.decide(gate.record(gate.init(Run(8, regions=others)), Step(0), Decision(Action.COMPUTE), Seen()),
                              Step(1, total=8), Seen())  # fmt: skip
    assert decision.of(others[0]) is Action.FILL
    assert gate.decide(gate.init(Run(8)), Step(0), Seen())[0].action is Action.COMPUTE


# -- ProfilingDiT ----------------------------------------------------------------------------------------------------


def test_refresh_steps_are_scaled():
    gate = Refresh((6, 18, 48))
    assert [gate.init(Run(t)) for t in (50, 25, None)] == [{6, 18, 48}, {3, 9, 24}, {6, 18, 48}]
    decisions = [gate.decide(frozenset({1}), Step(i), Seen())[0].fills for i in range(3)]
    assert decisions == [True, False, True]


def test_listed_blocks_are_left_out_and_the_others_run():
    model = AddModel((1, 2, 3))
    with synccache.cached(model, "profilingdit", blocks=[1], warmup=1, steps=50):
        assert call(model, 1000, 1) == 26
        assert call(model, 900, 10) == 20 + 10 + 2 + 30
        assert [b.calls for b in model.blocks] == [2, 1, 2]


def test_where_the_list_of_blocks_comes_from():
    def scope(anatomy=None, **given):
        recipe = RECIPES["profilingdit"]
        return recipe.build(complete(recipe, given, anatomy)).scope

    assert scope("wan").of == 40 and scope("hunyuan-video").of == 60
    profile = Profile(method="profilingdit", tensors={"blocks": torch.tensor([2, 3])}, model={}, timesteps=())
    assert scope("wan", profile=profile) == scope(profile=profile) == BlockRuns((2, 3))
    assert scope("wan", blocks=[5, 4]) == BlockRuns((4, 5))
    with pytest.raises(InputError, match="Give blocks or profile, not both"):
        scope("wan", profile=profile, blocks=[5, 4])
    assert scope(blocks="wan2.1-14b") == scope("wan")
    with pytest.raises(InputError, match=r"learn_profile\(pipe, 'profilingdit'"):
        scope("portrait")
    with pytest.raises(InputError, match="No list of blocks was published as 'sora'"):
        scope(blocks="sora")
    with pytest.raises(InputError, match=r"is for a model of 40 blocks, and this one .* has 3"):
        synccache.apply(AddModel(), "profilingdit", blocks="wan2.1-14b")


# -- TaylorSeer ------------------------------------------------------------------------------------------------------


def test_the_stack_is_continued_by_the_series():
    model = AddModel()
    with synccache.cached(model, "taylorseer-lite", order=2, interval=9, warmup=3):
        for t, level in ((1000, 1), (900, 2), (800, 5)):  # second difference 2
            call(model, t, level)
        # f_0 = 30, f[0,1] = 18, f[0,1,2] = 6: 30 + 18 k + 6 k^2
        assert [call(model, t, 99) for t in (700, 600)] == [20 + 54, 20 + 90]
