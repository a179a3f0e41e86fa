"""DiCache's alignment: its weights by hand, and a planted trajectory that it meets exactly."""

import math

import pytest
import torch

import synccache
from synccache import Method
from synccache.core.types import Context, Seen, Step
from synccache.forecasters import Alignment, Reuse
from synccache.gates import Probe, Threshold, Trajectory, Warmup
from synccache.scopes import WholeStack
from synccache.testing import AddModel, Pipeline, Video


def weights(*ratios, times=(5.0, 2.0), upper=1.5):
    context = Context(Step(9), Seen(ratios=ratios or None))
    found = Alignment(upper).weights(times, 9.0, context)
    assert found.dtype is torch.float64
    return found.tolist()


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([(0.1, 1.25)], [1.25, -0.25]),
        ([(0.1, 0.5)], [1, 0]),  # not back of the newest anchor
        ([(0.1, 7.0)], [1.5, -0.5]),
        ([(0.1, 1.0), (0.1, 1.5)], [1.25, -0.25]),  # a batch: the mean
        ([(0.1, 9.0), (0.1, math.nan)], [1.25, -0.25]),
        ([(0.1, math.nan)], [1, 0]),
        ([(0.1, math.inf)], [1, 0]),
        ([(0.1, 0.0)], [1, 0]),  # as the engine gives 0/0
        ([(0.1,)], [1, 0]),  # a gate that measures no trajectory
        ([], [1, 0]),
    ],
)
def test_weights_by_hand(ratios, expected):
    assert weights(*ratios) == [pytest.approx(expected)]


def test_anchors_and_the_upper_bound():
    assert Alignment().anchors == 2
    assert weights((0.1, 1.25), times=(5.0,)) == [[1]]
    assert weights((0.1, 1.25), times=(5.0, 2.0, 1.0)) == [[1.25, -0.25, 0]]
    assert weights((0.1, 7.0), upper=2.0) == [[2, -1]]


@pytest.mark.parametrize(
    ("level", "share"),
    [(2.25, 1.25), (2.5, 1.5), (4.0, 1.5), (1.5, 1.0), (2.0, 1.0)],
)
def test_what_goes_with_the_probe_is_met_exactly(level, share):
    """The first block adds the level and the others 5 times it: as far as the clip allows, the result is true."""
    gate = Warmup(Threshold(1e9, Trajectory()), 2)
    model = AddModel()
    with torch.no_grad(), synccache.cached(model, Method(gate, WholeStack(), Alignment()), steps=20) as handle:
        for t, now in ((1000, 1.0), (900, 2.0), (800, level), (700, level)):
            out = model(torch.full((1, 2, 3), 20.0), torch.tensor([float(t)]), torch.tensor(now))
        assert handle.trace.decisions() == ["computed", "computed", "skipped", "skipped"]
    assert out.unique().tolist() == [20 + level + 5 * (1 + share)]
    assert [b.calls for b in model.blocks] == [4, 2, 2]


def test_each_branch_aligns_for_itself_where_each_decides():
    """Two branches, whose levels move by 1.25 and 1.5 of their last way."""
    gate = Warmup(Threshold(1e9, Trajectory()), 2)
    model, outs = AddModel(), {}
    method = Method(gate, WholeStack(), Alignment())
    levels = {"cond": (1.0, 2.0, 2.25), "uncond": (2.0, 4.0, 5.0)}
    with torch.no_grad(), synccache.cached(model, method, steps=20, branches="separate") as handle:
        for i, t in enumerate((1000.0, 900.0, 800.0)):
            for name, of in levels.items():
                with handle.at(branch=name):
                    outs[name] = model(torch.full((1, 2, 3), 20.0), torch.tensor([t]), torch.tensor(of[i]))
    assert {n: o.unique().tolist() for n, o in outs.items()} == {"cond": [20 + 6 * 2.25], "uncond": [20 + 6 * 5.0]}


def test_it_is_the_probe_that_decides():
    """With guidance, the decisions are those of the plain probe, whatever is filled in on the way differs little."""
    pipe = Pipeline(Video())
    decisions = []
    for measure, forecaster in ((Trajectory(), Alignment(1.0)), (Probe(omega=1), Reuse())):
        gate = Warmup(Threshold(0.2, measure), 3)
        with synccache.cached(pipe, Method(gate, WholeStack(), forecaster)) as handle:
            pipe(steps=20)
            decisions.append(handle.trace.decisions())
    assert decisions[0] == decisions[1] and "skipped" in decisions[0]
