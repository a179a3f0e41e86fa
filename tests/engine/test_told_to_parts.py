"""What gates and forecasters are told: what was done, what was measured, where the video stands."""

import pytest
import torch
from calls import X, cached, call, output

from synccache import Anatomy, Method
from synccache.forecasters import ByPerson, Lagrange, Reuse
from synccache.gates import Listed, Threshold
from synccache.scopes import WholeStack
from synccache.testing import AddModel


def test_a_gate_is_told_what_was_done_not_what_it_asked_for():
    """It asks for skips only. The first step is computed, and so is one for which nothing of its size is stored."""
    model, done = AddModel(), []

    class Recording(Listed):
        def record(self, state, step, decision, seen):
            done.append(decision.action.value)

    with cached(model, Method(Recording(frozenset()), WholeStack(absorb=False), Reuse())):
        for t, batch in ((1000, 1), (900, 1), (800, 2), (700, 2)):
            call(model, t, 1, X.repeat(batch, 1, 1))
    assert done == ["computed", "skipped", "computed", "skipped"]


def test_all_branches_forecast_by_what_the_deciding_one_measured():
    model, shown = AddModel(), []

    class Seeing(Reuse):
        def weights(self, times, t, context):
            shown.append(context.seen.ratios)
            return super().weights(times, t, context)

    with cached(model, Method(Threshold(9.0), WholeStack(absorb=False), Seeing())) as handle:
        for step in range(3):
            call(model, 1000 - step, 1, X + step), call(model, 1000 - step, 2, X + step)
        errors = handle.trace.errors()
    assert shown == [((error,),) for error in errors[1:] for _ in range(2)]
    assert errors[1] == pytest.approx(1 / 21)


def test_a_person_stands_where_the_video_begins_behind_other_tokens():
    """Two tokens of text, then three of the video, of which the first is the person's and goes on in a line."""
    model, x = AddModel(), torch.full((1, 5, 1), 20.0)
    anatomy = Anatomy("toy", tuple(model.blocks), offset=2, grid=lambda bound: (1, 1, 3))
    method = Method(Listed(frozenset({0, 1})), WholeStack(absorb=False), ByPerson(Lagrange(1), Reuse()))
    with cached(model, method, anatomy=anatomy, mask=torch.tensor([[1.0, 0, 0]])):
        call(model, 1000, 1, x), call(model, 900, 2, x)
        assert output(model, 800, 9, x).flatten().tolist() == [32, 32, 38, 32, 32]
