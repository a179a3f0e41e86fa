"""How many steps a run has: told, else by its schedule, else as many as the last complete one; and what is said."""

import pytest
from calls import X, cached, call, decisions, listed, output, picture

from synccache import InputError, Method, Notice
from synccache.forecasters import Reuse
from synccache.gates import Last, Listed, Never, Threshold, Warmup
from synccache.scopes import WholeStack
from synccache.testing import AddModel, Pipeline, Video

STACK = WholeStack(absorb=False)
LAST = Method(Last(Listed(frozenset({0})), 1), STACK, Reuse())
UNKNOWN = "nobody tells how many steps this run will have. Pass steps= to apply, or tell it with handle.at"


def run(model, steps, total=None, first=1000.0, last=0.0, offset=0.0):
    """``steps`` of the ``total`` ones that lead from ``first`` to ``last``."""
    total = total or steps
    for step in range(steps):
        call(model, first + (last - first) * step / total, 1, X - step / 100 - offset)


def lines(handle):
    """Of each run: ``#`` computed, ``.`` skipped."""
    runs = range(len(handle.trace.runs))
    return ["".join("#" if d == "computed" else "." for d in handle.trace.decisions(number)) for number in runs]


def test_the_setting_and_what_is_told_go_before_the_schedule():
    pipe = Pipeline(Video())
    for given, told, expected in (({}, None, 20), ({"steps": 15}, None, 15), ({"steps": 15}, 12, 12)):
        with cached(pipe, LAST, **given) as handle, handle.at(total=told):
            pipe(guidance=1.0)
        assert decisions(handle) == "#" + "." * (expected - 2) + "#" * (21 - expected)


def test_a_schedule_counts_from_where_the_run_begins():
    pipe = Pipeline(AddModel())
    pipe.scheduler.set_timesteps(20)
    with cached(pipe, LAST) as handle:
        for t in pipe.scheduler.timesteps[8:].tolist():  # image to image
            call(pipe.transformer, t, 1)
    assert decisions(handle) == "#..........#"


def test_without_anybody_who_tells_it_is_said_once_and_the_last_complete_run_tells():
    model = AddModel()
    with cached(model, LAST) as handle, pytest.warns(Notice, match=UNKNOWN) as said:
        for steps in (10, 10, 12, 12):
            run(model, steps)
    # the third run goes on where it should have ended: what was stored is gone, so one more step is computed
    assert lines(handle) == ["#.........", "#........#", "#........##.", "#..........#"] and len(said) == 1


@pytest.mark.parametrize("first", [1000.0, 1.0])
def test_a_cancelled_run_is_no_complete_one(first):
    model = AddModel()
    with cached(model, LAST) as handle, pytest.warns(Notice, match=UNKNOWN):
        run(model, 9, total=10, first=first)
        run(model, 10, first=first)
        run(model, 10, first=first)
    assert lines(handle) == ["#........", "#.........", "#........#"]


def test_timesteps_that_rise_come_to_their_end_too():
    for last in (1.0, 1000.0):
        model = AddModel()
        with cached(model, LAST) as handle, pytest.warns(Notice, match=UNKNOWN):
            for steps in (9, 10, 10):
                run(model, steps, total=10, first=0.0, last=last)
        assert lines(handle) == ["#........", "#.........", "#........#"]


def test_a_guess_refuses_no_run():
    model, method = AddModel(), listed(0, 12)
    with cached(model, method) as handle:
        run(model, 10)
        run(model, 20)  # as long as the one before, for all that is known at first
        assert lines(handle)[1][:9] == "#........"
    with cached(model, method, steps=10), pytest.raises(InputError, match="goes to 12, and this run's 10"):
        run(model, 10)


def test_a_schedule_whose_timesteps_cease_to_arrive_tells_no_length():
    pipe = Pipeline(AddModel())
    pipe.scheduler.set_timesteps(10)
    with cached(pipe, LAST) as handle, pytest.warns(Notice, match=UNKNOWN):
        run(pipe.transformer, 12)  # begins at 1000 like the schedule, which is another's
    assert decisions(handle) == "#..........."


def test_a_run_that_goes_on_after_its_last_step_is_computed():
    model = AddModel()
    with cached(model, LAST) as handle, handle.at(total=9):
        run(model, 12)
    assert decisions(handle) == "#.......####" and {r.reason for r in handle.trace.records[8:]} == {"last"}


def test_a_length_that_is_told_later_counts_from_then_on():
    model = AddModel()
    with cached(model, Method(Listed(frozenset({0})), STACK, Reuse())) as handle:
        run(model, 4, total=12)
        with handle.at(total=12):
            for t in (600, 500):
                call(model, t, 1)
        assert handle.bytes and decisions(handle) == "#....."
        for t in range(450, 150, -50):
            call(model, t, 1)
        assert handle.bytes == 0 and decisions(handle) == "#..........."


# -- what is said ----------------------------------------------------------------------------------------------------


def test_a_gate_that_needs_no_length_says_nothing():
    for gate in (Listed(frozenset({0, 5})), Warmup(Listed(frozenset({0})), 3), Last(Never())):
        model = AddModel()
        with cached(model, Method(gate, STACK, Reuse())):
            run(model, 12)


def test_few_steps_are_noticed_once():
    pipe = Pipeline(Video())
    with cached(pipe, "interval"), pytest.warns(Notice, match="8 or fewer") as said:
        pipe(steps=8)
        pipe(steps=4)
    assert len(said) == 1
    with cached(pipe, "none"):
        pipe(steps=4)


@pytest.mark.parametrize(
    ("method", "latents", "reason", "what_to_do"),
    [
        (Method(Threshold(0.0), STACK, Reuse()), None, "error", "raise threshold="),
        (Method(Warmup(Listed(frozenset()), 10), STACK, Reuse()), None, "warm-up", "lower warmup="),
        (listed(0), (1, 2), "no anchors", "other batch sizes"),
    ],
)
def test_a_run_that_could_have_skipped_and_did_not_says_why_once(method, latents, reason, what_to_do):
    model = AddModel((1, 2, 3))
    text = rf"left out nothing in a run of 9 steps; the reason at \d of them: {reason}. .*{what_to_do}"
    with cached(model, method, steps=9) as handle, pytest.warns(Notice, match=text) as said:
        for step in range(18):  # two runs
            size = 1 if latents is None else latents[step % 2]
            x = X.repeat(size, 1, 1) + step % 9
            output(model, 1000 - 100 * (step % 9), 1 + step % 9, x=x)
        assert handle.trace.skipped() == 0
    assert len(said) == 1


def test_nothing_is_said_of_a_short_run_nor_of_one_that_skipped_nor_of_a_cancelled_one_with_both():
    model = AddModel()
    with cached(model, Method(Threshold(0.0), STACK, Reuse()), steps=9):
        run(model, 3, total=9)
        run(model, 3, total=9)
    with cached(model, listed(*range(8)), steps=9):
        run(model, 9)


def test_steps_that_all_look_like_the_start_of_a_run_are_noticed():
    model = AddModel()
    with cached(model, listed(0)), pytest.warns(Notice, match="tell where calls belong"):
        for seed in range(9):
            output(model, 1000 - seed, 1, x=picture(seed))
