"""Which path was taken, told by whole numbers: computed gives 44, filled in gives 41."""

import torch
from calls import cached, decisions

import synccache
from synccache import Method
from synccache.core.types import Watch
from synccache.forecasters import Lagrange, Reuse
from synccache.gates import Listed, Never
from synccache.scopes import Nothing, Segments, WholeStack
from synccache.testing import AddModel, Look, Watching

X = torch.full((1, 2, 3), 20.0)


def listed(*steps, scope=None, forecaster=None):
    return Method(Listed(frozenset(steps)), scope or WholeStack(absorb=False), forecaster or Reuse())


def call(model, timestep, level, x=X):
    with torch.no_grad():
        return model(x.clone(), torch.tensor([float(timestep)]), torch.tensor(float(level)))


def test_computed_is_44_and_filled_is_41():
    model = AddModel()
    with cached(model, listed(0)):
        assert call(model, 1000, 3.5).unique().tolist() == [41]
        assert call(model, 900, 4).unique().tolist() == [41]
        assert [b.calls for b in model.blocks] == [1, 1, 1]
    assert call(model, 800, 4).unique().tolist() == [44]


def test_a_filled_step_starts_from_its_own_input():
    model = AddModel()
    with cached(model, listed(0)):
        call(model, 1000, 3.5)
        assert call(model, 900, 4, X + 100).unique().tolist() == [141]


def test_extrapolation_through_the_engine():
    model = AddModel()
    with cached(model, listed(0, 1, forecaster=Lagrange(1))):
        call(model, 1000, 1)
        call(model, 900, 2)
        assert call(model, 800, 99).unique().tolist() == [20 + 6 * 3]
        assert call(model, 700, 99).unique().tolist() == [20 + 6 * 4]


def test_never_runs_every_block_and_stores_nothing():
    model = AddModel()
    with cached(model, Method(Never(), Nothing(), Reuse())) as handle:
        for t in (1000, 900, 800):
            assert call(model, t, 4).unique().tolist() == [44]
        assert handle.bytes == 0
        assert handle.trace.decisions() == ["computed"] * 3


def test_the_first_step_of_a_run_is_always_computed():
    model = AddModel()
    with cached(model, listed()) as handle:
        call(model, 1000, 3.5)
        assert call(model, 900, 4).unique().tolist() == [41]
        assert handle.trace.decisions() == ["computed", "skipped"]
        assert handle.trace.records[0].reason == "first step"


def test_anchors_are_copies():
    model = AddModel()
    with cached(model, listed(0)) as handle:
        out = call(model, 1000, 3.5)
        out.fill_(-7)
        first = call(model, 900, 4)
        first.fill_(-7)
        assert call(model, 800, 4).unique().tolist() == [41]
        assert handle.trace.skipped() == 2


def test_the_cached_value_never_comes_back_as_the_output_object():
    model = AddModel()
    with cached(model, listed(0)):
        x = X.clone()
        call(model, 1000, 0, x)
        with torch.no_grad():
            out = model(x, torch.tensor([900.0]), torch.tensor(0.0))
        out += 5
        assert x.unique().tolist() == [20]


def test_one_region_computed_and_another_filled():
    from dataclasses import dataclass

    from synccache.core.types import Action, Decision

    @dataclass(frozen=True)
    class Half(Listed):
        def decide(self, state, step, seen):
            decision, state = super().decide(state, step, seen)
            return Decision(decision.action, "half", actions={"blocks 2-2": Action.COMPUTE}), state

    model = AddModel()
    anatomy = synccache.Anatomy("toy", tuple(model.blocks), sites=(1,))
    with cached(model, Method(Half(frozenset({0})), Segments(), Reuse()), anatomy=anatomy):
        call(model, 1000, 3.5)
        assert call(model, 900, 4).unique().tolist() == [20 + 3 * 3.5 + 3 * 4]
        assert [b.calls for b in model.blocks] == [1, 1, 2]


def test_a_gate_looks_back_at_the_step_before_and_at_computed_ones():
    """At the step before whatever that did; at the last computed steps, newest first."""
    model, shown = AddModel(), []

    def show(seen):
        tap = seen.tap("probe")
        value = lambda tensor: None if tensor is None else float(tensor.flatten()[0])  # noqa: E731
        shown.append((value(tap.now), value(tap.before), [value(c) for c in tap.computed]))

    look = Look(show, watches={"probe": Watch(before=True, computed=2)})
    method = Method(Watching(frozenset({0, 2, 3}), look), WholeStack(absorb=False), Reuse())
    with cached(model, method) as handle:
        for step in range(6):
            call(model, 1000 - step, 1, X + step)  # the first block adds 1
        assert decisions(handle) == "#.##.."
    assert shown == [
        (21, None, []), (22, 21, [21]), (23, 22, [21]), (24, 23, [23, 21]), (25, 24, [24, 23]), (26, 25, [24, 23])
    ]  # fmt: skip
