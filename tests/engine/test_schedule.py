"""A scheduler's timesteps as evidence: where a run begins in them, what comes next, how long it will be."""

from types import SimpleNamespace

import pytest
import torch
from calls import cached, seen

from synccache import Method
from synccache.engine.place.schedule import Schedule, Time, schedule_of, timesteps_of
from synccache.forecasters import Reuse
from synccache.gates import Never
from synccache.scopes import Nothing
from synccache.testing import AddModel, Pipeline

TIMES = [900.0, 600.0, 300.0]


def at(high, low=None, rounding=0.0):
    low = high if low is None else low
    return Time(high, (high + low) / 2, low, rounding)


@pytest.mark.parametrize(
    ("timesteps", "first", "index", "length"),
    [
        (TIMES, 900.0, 0, 3),
        (TIMES, 600.0, 1, 2),  # image to image
        (TIMES, 0.9, 0, 3),  # as a fraction
        (TIMES, 0.1, 0, 3),  # as a fraction, from the other end
        ([1.0, 0.7, 0.2], 0.3, 1, 2),  # fractions, from the other end
        ([100.0, 400.0, 700.0], 100.0, 0, 3),  # rising
        ([900.0, 600.0, 700.0, 300.0], 700.0, 2, 2),  # back and forth
        (TIMES, 77.7, None, None),
        ([], 900.0, None, None),
    ],
)
def test_a_run_begins_where_its_first_timestep_stands(timesteps, first, index, length):
    schedule = Schedule(timesteps)
    entry = schedule.start(at(first))
    assert (None if entry is None else entry.index) == index
    assert entry is None or schedule.length(entry) == length


def test_the_next_one_is_the_next_in_the_list_in_the_scale_of_the_first():
    entry = Schedule([1000.0, 500.0, 1.0]).start(at(1.0))
    assert entry.index == 0  # 1.0 is the first one as a fraction, not the last one as it is
    assert entry.next(at(500.0)) is None and entry.next(at(0.001)) is None
    second = entry.next(at(0.5))
    assert second.index == 1 and second.next(at(0.5)) is None
    assert second.next(at(0.001)).next(at(0.0)) is None  # the end


def test_timesteps_that_zigzag_or_repeat_are_what_the_list_says():
    entry = Schedule([800.0, 500.0, 650.0, 650.0, 100.0]).start(at(800.0))
    for index, time in enumerate((500.0, 650.0, 650.0, 100.0), 1):
        entry = entry.next(at(time))
        assert entry.index == index and not entry.evaluates


def test_with_order_2_a_repeated_timestep_is_another_evaluation():
    heun = Schedule([900.0, 600.0, 600.0, 300.0, 300.0], order=2)
    assert heun.length(heun.start(at(900.0))) == 3
    assert heun.length(heun.start(at(600.0))) == 2
    entry = heun.start(at(900.0)).next(at(600.0))
    assert [entry.evaluates, entry.next(at(600.0)).evaluates] == [False, True]
    assert Schedule([900.0, 600.0, 600.0], order=1).evaluates == [False] * 3


@pytest.mark.parametrize("rows", [(900.0, 0.0), (1000.0, 900.0)])
def test_of_several_timesteps_the_rows_that_move_count(rows):
    """Clean frames stay at 0, reference rows at another end: what counts is the highest or the lowest."""
    entry, other = Schedule(TIMES).start(at(*rows)), next(r for r in rows if r != 900.0)
    assert entry.index == 0
    moved = sorted((600.0, other), reverse=True)
    assert entry.next(at(*moved)).index == 1 and entry.next(at(*rows)) is None


def test_rounding_of_bfloat16_is_allowed_for_and_no_more():
    values = [999.0, 979.6, 957.3, 12.3]
    as_called = [float(torch.tensor(v, dtype=torch.bfloat16)) for v in values]
    assert as_called == [1000.0, 980.0, 956.0, 12.3125]
    for rounding, found in ((0.0, None), (2.0**-8, 0)):
        entry = Schedule(values[2:]).start(at(as_called[2], rounding=rounding))
        assert (None if entry is None else entry.index) == found
    entry = Schedule(values).start(at(1000.0, rounding=2.0**-8))
    assert entry.next(at(980.0, rounding=2.0**-8)).index == 1
    assert entry.next(at(960.0, rounding=2.0**-8)) is None


def test_times_that_only_differ_in_a_row_that_moves():
    assert at(900, 0).after(at(800, 0)) == 1 and at(800, 0).after(at(900, 0)) == -1
    assert Time(1000, 500, 0).after(Time(1000, 600, 0)) == -1  # the rows in between have moved
    assert at(900, 0).after(at(900, 0)) == 0 and at(900, 0) == at(900, 0, rounding=0.1)
    assert Time(900, 500, 0) != Time(900, 400, 0)


def test_a_scheduler_that_nobody_has_set_says_nothing():
    as_made = SimpleNamespace(timesteps=torch.arange(999.0, -1, -1), num_inference_steps=None)
    assert timesteps_of(SimpleNamespace(scheduler=as_made)) is None
    trained = SimpleNamespace(timesteps=as_made.timesteps, config=SimpleNamespace(num_train_timesteps=1000))
    assert timesteps_of(SimpleNamespace(scheduler=trained)) is None  # one that doesn't count its steps
    assert timesteps_of(SimpleNamespace(scheduler=None)) is None and timesteps_of(object()) is None
    pipe = SimpleNamespace(scheduler=SimpleNamespace(timesteps=torch.tensor([999, 500, 500]), order=2))
    found = schedule_of(pipe, timesteps_of(pipe))
    assert (found.timesteps, found.evaluates) == ([999.0, 500.0, 500.0], [False, False, True])
    assert schedule_of(pipe, None) is None and schedule_of(pipe, []) is None


# -- on a model ------------------------------------------------------------------------------------------------------


def steps(timesteps, called=None, order=1):
    """(run, step, evaluation) of each call with the ``timesteps`` of a scheduler, or with those in ``called``."""
    pipe = Pipeline(AddModel())
    pipe.scheduler.timesteps, pipe.scheduler.order = torch.tensor(timesteps), order
    called = timesteps if called is None else called
    with cached(pipe, Method(Never(), Nothing(), Reuse())) as handle, torch.no_grad():
        for number, time in enumerate(called):
            x = torch.full((1, 2, 3), 20.0 - number / 10)
            pipe.transformer(x, torch.as_tensor(time).reshape(1), torch.tensor(1.0))
    return seen(handle, "run", "step", "evaluation")


def test_a_schedule_may_rise_zigzag_and_repeat():
    for timesteps in ([0.0, 300.0, 900.0], [900.0, 500.0, 700.0, 100.0], [900.0, 500.0, 500.0, 100.0]):
        assert steps(timesteps) == [(0, i, 0) for i in range(len(timesteps))]


def test_a_repeated_timestep_is_a_step_or_an_evaluation_as_the_scheduler_says():
    timesteps = [900.0, 600.0, 600.0, 300.0]
    assert steps(timesteps) == [(0, 0, 0), (0, 1, 0), (0, 2, 0), (0, 3, 0)]
    assert steps(timesteps, order=2) == [(0, 0, 0), (0, 1, 0), (0, 1, 1), (0, 2, 0)]


def test_bfloat16_timesteps_of_which_some_repeat_the_one_before():
    timesteps = [1000.0 - 2 * i for i in range(12)]
    called = torch.tensor(timesteps).bfloat16()
    assert len(called.unique()) < 12
    assert steps(timesteps, called) == [(0, i, 0) for i in range(12)]


def test_a_scheduler_whose_timesteps_are_not_those_that_arrive_says_nothing():
    assert steps([900.0, 600.0, 300.0], [950.0, 930.0, 910.0, 890.0]) == [(0, i, 0) for i in range(4)]
    found = steps([900.0, 600.0, 900.0], [950.0, 600.0, 900.0])  # 900 is no step of it, so time turns back
    assert found == [(0, 0, 0), (0, 1, 0), (1, 0, 0)]
    assert steps([900.0, 600.0, 700.0], [900.0, 650.0, 700.0])[-1] == (1, 0, 0)  # it has ceased to tell
