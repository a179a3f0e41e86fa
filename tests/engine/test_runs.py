"""Runs, steps, branches, evaluations, requests, experts: never a stale tensor, never a leak."""

import pytest
import torch
from calls import EVERY_3, X, call, listed

import synccache
from synccache import Method
from synccache.forecasters import Lagrange, Reuse
from synccache.gates import Interval, MaxGap, Never
from synccache.scopes import Segments
from synccache.testing import AddModel, Pipeline, Video


def test_a_timestep_that_goes_back_up_is_a_new_run():
    model = AddModel()
    with synccache.cached(model, listed(0)) as handle:
        assert [call(model, 1000, 3.5), call(model, 500, 4)] == [41, 41]
        assert [call(model, 900, 4), call(model, 500, 9)] == [44, 44]
        assert handle.trace.runs == [(None, 0), (None, 1)]
        assert [r.step for r in handle.trace] == [0, 1, 0, 1]
        assert handle.trace.computed(0) == handle.trace.computed(1) == 1


def test_two_runs_in_a_row_give_what_they_give_alone():
    pipe = Pipeline(Video())
    anatomy = synccache.Anatomy("video", tuple(pipe.transformer.blocks), sites=(0, 2))
    with synccache.cached(pipe, EVERY_3, anatomy=anatomy) as handle:
        alone = pipe(seed=1)
        assert handle.trace.decisions() == (["computed", "skipped", "skipped"] * 7)[:20]
    with synccache.cached(pipe, EVERY_3, anatomy=anatomy):
        pipe(seed=0)
        assert torch.equal(pipe(seed=1), alone)


@pytest.mark.parametrize("shape", [(1, 4, 3, 4, 4), (1, 4, 2, 4, 6)])
def test_another_shape_is_a_new_run(shape):
    model = Video()
    with torch.no_grad(), synccache.cached(model, listed(0)) as handle:
        model(torch.ones(1, 4, 2, 4, 4), torch.tensor([1000.0]))
        model(torch.ones(shape), torch.tensor([900.0]))
        assert handle.trace.decisions() == ["computed"] and len(handle.trace.runs) == 2


def test_another_batch_size_drops_anchors_but_not_the_run():
    model = AddModel()
    with synccache.cached(model, listed(0)) as handle:
        call(model, 1000, 3.5)
        assert call(model, 900, 4, X.repeat(2, 1, 1)) == 44
        assert call(model, 800, 9, X.repeat(2, 1, 1)) == 44
        assert [(r.run, r.step, r.reason) for r in handle.trace][1:] == [(0, 1, "no anchors"), (0, 2, "listed")]


def test_a_pipeline_whose_scheduler_was_set_anew_is_a_new_run_even_at_a_lower_timestep():
    pipe = Pipeline(AddModel())
    with synccache.cached(pipe, listed(0)) as handle:
        pipe.scheduler.set_timesteps(20)
        call(pipe.transformer, 1000, 3.5)
        pipe.scheduler.set_timesteps(20)
        assert call(pipe.transformer, 900, 4) == 44
        assert len(handle.trace.runs) == 2


def test_same_run_keeps_a_rising_timestep_in_the_run():
    model = AddModel()
    with synccache.cached(model, listed(0)) as handle, handle.same_run():
        call(model, 1000, 3.5)
        call(model, 900, 4)
        assert call(model, 950, 4) == 41


def test_rising_timesteps_where_the_anatomy_says_so():
    model = AddModel()
    anatomy = synccache.Anatomy("flow", tuple(model.blocks), rising=True)
    with synccache.cached(model, listed(0), anatomy=anatomy):
        assert [call(model, t, level) for t, level in ((0.0, 3.5), (0.1, 4), (0.2, 4))] == [41, 41, 41]
        assert call(model, 0.0, 4) == 44


def test_heun_evaluates_a_step_twice():
    model = AddModel()
    with synccache.cached(model, listed(0)) as handle:
        call(model, 1000, 1)
        call(model, 1000, 1, X + 1)
        call(model, 900, 1, X + 2)
        call(model, 900, 1, X + 3)
        assert [(r.step, r.evaluation, r.branch) for r in handle.trace] == [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0)]
        assert handle.trace.decisions() == ["computed", "computed", "skipped", "skipped"]


def test_two_experts_share_the_step_index_and_nothing_else():
    pipe = Pipeline(Video(seed=0), Video(seed=1))
    with synccache.cached(pipe, Method(MaxGap(Interval(4), 4), Segments(), Reuse())) as handle:
        pipe(steps=20)
        assert len(handle.trace.runs) == 1 and len(handle.trace.steps()) == 20
        assert [r.expert for r in handle.trace.steps()] == [0] * 10 + [1] * 10
        switch = handle.trace.steps()[10]
        assert switch.decision == "computed"
        assert switch.reason == "no anchors"
        assert {k[0] for k in handle.engine.session().histories} == {1}  # the first one's went when it was done
        assert len({r.bytes for r in handle.trace if r.step in (9, 19)}) == 1
    assert type(pipe.transformer_2) is Video


def test_reset_and_pause():
    model = AddModel()
    with synccache.cached(model, listed(0)) as handle:
        call(model, 1000, 3.5)
        handle.reset()
        assert handle.bytes == 0 and len(handle.trace) == 0
        assert call(model, 900, 4) == 44
        with handle.pause():
            assert call(model, 800, 5) == 50
        assert len(handle.trace) == 1
        assert call(model, 700, 4) == 44


def test_run_length_from_the_scheduler_or_the_setting():
    pipe = Pipeline(Video())
    with synccache.cached(pipe, "interval", interval=20, warmup=0.2, last=2) as handle:
        pipe(steps=20)
        assert [i for i, d in enumerate(handle.trace.decisions()) if d == "computed"] == [0, 1, 2, 3, 18, 19]
    with synccache.cached(pipe.transformer, "interval", interval=20, warmup=3, last=2) as handle:
        pipe(steps=20)
        assert [i for i, d in enumerate(handle.trace.decisions()) if d == "computed"] == [0, 1, 2]
    with synccache.cached(pipe.transformer, "interval", interval=20, warmup=3, last=2, steps=20) as handle:
        pipe(steps=20)
        assert [i for i, d in enumerate(handle.trace.decisions()) if d == "computed"] == [0, 1, 2, 18, 19]


@pytest.mark.parametrize(
    ("timesteps", "first", "length"),
    [
        ([900.0, 600.0, 300.0], 900.0, 3), ([900.0, 600.0, 300.0], 600.0, 2), ([900.0, 600.0, 300.0], 0.9, 3),
        ([900.0, 600.0, 600.0, 300.0, 300.0], 900.0, 3), ([900.0, 600.0, 300.0], 0.1, 3), (None, 900.0, None),
        (torch.tensor([999, 500]), 999.0, 2), ([900.0, 600.0], 77.7, 2),
    ],
)  # fmt: skip
def test_run_length(timesteps, first, length):
    from synccache.engine.schedule import run_length

    assert run_length(timesteps, first) == length


def test_few_steps_are_noticed_once():
    pipe = Pipeline(Video())
    with synccache.cached(pipe, "interval"), pytest.warns(synccache.Notice, match="8 or fewer") as seen:
        pipe(steps=8)
        pipe(steps=4)
    assert len(seen) == 1
    with synccache.cached(pipe, "none"):
        pipe(steps=4)


def test_timestep_and_error_come_over_together(monkeypatch):
    """On an accelerator the timestep stays there until the error is read; here by pretending that the CPU is one."""
    from synccache.engine.act.call import Call

    pipe, read, arrive, arrived = Pipeline(Video()), Call.read_timestep, Call.arrive, []

    def two_runs():
        with synccache.cached(pipe, "synccache", threshold=0.3) as handle:
            videos = [pipe(seed=seed) for seed in (0, 1)]
            return videos, [(r.run, r.step, r.branch, r.decision, r.timestep, r.error) for r in handle.trace]

    def lazily(self, value):
        monkeypatch.setattr(Call, "arrive", lambda *_: None)
        read(self, value)
        monkeypatch.setattr(Call, "arrive", lambda self, t: (arrived.append(t), arrive(self, t)))
        assert (self.timestep is None) == (self.pending is not None)

    expected = two_runs()
    monkeypatch.setattr(Call, "read_timestep", lazily)
    found = two_runs()
    assert all(torch.equal(a, b) for a, b in zip(found[0], expected[0], strict=True)) and found[1] == expected[1]
    assert len(arrived) == 40  # once a step: the second branch passes the same object


def test_a_never_skipping_gate_with_linear_anchors_stays_bounded():
    pipe = Pipeline(Video())
    with synccache.cached(pipe, Method(Never(), Segments(), Lagrange(1))) as handle:
        pipe()
        assert {len(h.anchors) for h in handle.engine.session().histories.values()} == {2}
