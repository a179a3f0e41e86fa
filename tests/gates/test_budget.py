"""A given number of computed steps: exactly, whatever the errors are."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synccache.core.types import Action, Decision, Run, Seen, Step
from synccache.gates import Budget, Interval, Last, Listed, MaxGap, Threshold, Warmup, replay
from synccache.gates.even import spread, stretched


def run(gate, errors, evaluations=1):
    """Which steps are computed, by asking as the engine does, and why."""
    total = len(errors)
    state, steps, reasons = gate.init(Run(total)), [], []
    for index, error in enumerate(errors):
        for evaluation in range(evaluations):
            step, seen = Step(index, total=total, evaluation=evaluation), Seen(ratios=((error,),))
            decision, state = gate.decide(state, step, seen if error is not None else Seen())
            if index == 0:
                decision = Decision(Action.COMPUTE, "first step")
            state = gate.record(state, step, decision, seen)
            if evaluation:
                assert decision.fills != (index in steps)
            elif not decision.fills:
                steps.append(index)
                reasons.append(decision.reason)
    return steps, reasons


def protected(warmup, last, gap):
    gate = Threshold(0.0)
    gate = MaxGap(gate, gap) if gap else gate
    gate = Last(gate, last) if last else gate
    return Warmup(gate, warmup) if warmup else gate


ERROR = st.one_of(st.none(), st.floats(0, 1), st.sampled_from([math.nan, math.inf]))


@given(
    st.lists(ERROR, min_size=1, max_size=30), st.data(), st.one_of(st.integers(0, 12), st.floats(0, 0.9)),
    st.integers(0, 4), st.one_of(st.none(), st.integers(1, 6)),
    st.one_of(st.none(), st.lists(st.floats(0, 1), min_size=1, max_size=20)), st.integers(1, 2),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_never_more_and_never_fewer(errors, data, warmup, last, gap, recorded, evaluations):
    """Whatever is measured: warm-up and last steps come first, a largest gap last."""
    total = len(errors)
    wanted = data.draw(st.integers(1, total))
    known = None if recorded is None else (None, *recorded)
    steps, _ = run(Budget(protected(warmup, last, gap), wanted, known), errors, evaluations)
    assert len(steps) == wanted and steps[0] == 0
    ends = min(last, wanted - 1)
    first = max(1, min(Warmup(Threshold(0.0), warmup).count(total), wanted - ends))
    first = first if known is not None else min(first, max(1, wanted // 3))
    assert set(range(first)) | set(range(total - ends, total)) <= set(steps)


@given(st.integers(1, 60), st.data())
@settings(max_examples=100, deadline=None)
def test_an_even_list_is_even(total, data):
    computed = data.draw(st.integers(1, total))
    last = data.draw(st.integers(0, computed - 1))
    first = data.draw(st.integers(1, computed - last))
    steps = spread(total, computed, first, last)
    assert len(set(steps)) == computed and list(steps) == sorted(steps)
    assert set(steps) >= set(range(first)) | set(range(total - last, total)) and steps[-1] < total
    gaps = [b - a for a, b in zip(steps[first - 1 :], (*steps[first:], total), strict=True)]
    between = gaps[: len(gaps) - last] if last else gaps
    assert max(between) - min(between) <= 1


def test_without_errors_the_steps_are_spread_in_the_first_run_already():
    gate = Budget(protected(0.1, 1, None), 12)
    even = [0, 1, 2, 3, 8, 12, 17, 21, 26, 30, 35, 39]
    assert run(gate, [0.1] * 40)[0] == run(gate, [None] * 40)[0] == even
    assert run(Budget(Threshold(0.0), 3), [None] * 9)[0] == [0, 3, 6]


def test_with_errors_it_goes_by_the_threshold_that_gives_so_many():
    errors = [None, *[0.1 + 0.05 * (i % 7) for i in range(39)]]
    for wanted in (8, 12, 20):
        gate = Budget(protected(0.1, 1, None), wanted, tuple(errors))
        inner = gate.init(Run(40)).gate
        assert sum(replay(inner, errors)) == wanted
        assert run(gate, errors)[0] == [i for i, c in enumerate(replay(inner, errors)) if c]


@pytest.mark.parametrize("factor", [0.01, 0.5, 1.3, 40])
def test_errors_that_are_larger_or_smaller_on_the_whole_change_nothing(factor):
    known = (None, *[0.1 + 0.05 * (i % 7) for i in range(39)])
    gate = Budget(protected(0.1, 1, None), 12, known)
    assert run(gate, [None, *(factor * e for e in known[1:])])[0] == run(gate, known)[0]
    state = gate.init(Run(40))
    decision, state = gate.decide(state, Step(1, total=40), Seen(ratios=((factor * 0.1,),)))
    assert (decision.error, decision.total) == (pytest.approx(factor * 0.1), pytest.approx(factor * 0.1))


def test_errors_that_come_all_at_once():
    gate = Budget(protected(2, 2, None), 8, (None, *[0.1] * 19))
    steps, reasons = run(gate, [None, *[0.001] * 8, *[1.0] * 11])
    assert steps[:2] == [0, 1] and steps[-2:] == [18, 19] and len(steps) == 8
    steps, reasons = run(gate, [None, *[1.0] * 8, *[0.0] * 11])
    assert reasons[-3:] == ["budget", "last", "last"] and len(steps) == 8


def test_a_warm_up_that_is_too_long_is_shortened_and_the_first_step_stays():
    known = (None, *[0.1] * 9)
    for wanted, steps in ((1, [0]), (2, [0, 9]), (3, [0, 8, 9]), (5, [0, 1, 2, 8, 9]), (7, [0, 1, 2, 3, 4, 8, 9])):
        assert run(Budget(protected(6, 2, None), wanted, known), [0.3] * 10)[0] == steps


def test_an_even_list_has_a_warm_up_of_a_third_at_most():
    for wanted, steps in ((1, [0]), (2, [0, 9]), (3, [0, 8, 9]), (5, [0, 3, 5, 8, 9]), (7, [0, 1, 3, 5, 6, 8, 9])):
        assert run(Budget(protected(6, 2, None), wanted), [0.3] * 10)[0] == steps


def test_more_steps_than_there_are_is_all_of_them():
    assert run(Budget(Threshold(0.0), 30, (None, 0.1, 0.1)), [0.0] * 7)[0] == list(range(7))
    assert run(Budget(Threshold(0.0), 30), [0.0] * 7)[0] == list(range(7))


def test_a_run_of_unknown_length_is_computed():
    gate = Budget(Threshold(0.0), 5)
    assert gate.init(Run(None)) is None and gate.record(None, Step(4), Decision(Action.FILL), Seen()) is None
    decision, state = gate.decide(None, Step(4), Seen(ratios=((0.1,),)))
    assert decision == Decision(Action.COMPUTE, "length unknown", 0.1) and state is None


def test_a_length_that_is_told_late_leaves_what_remains():
    """The first steps were computed; so were those before the model's parts were known."""
    gate = Budget(Threshold(0.0), 6)
    state, computed = gate.init(Run(20)), 4
    for index in range(4, 20):
        decision, state = gate.decide(state, Step(index, total=20), Seen())
        state = gate.record(state, Step(index, total=20), decision, Seen())
        computed += not decision.fills
    assert computed == 6


def test_steps_that_had_to_be_computed_count():
    """The engine computes where nothing is stored, or a wrapper outside does."""
    forced = Warmup(Budget(Threshold(0.0), 5), 3)
    assert len(run(forced, [0.1] * 12)[0]) == 5
    gate = Budget(Threshold(0.0), 5)
    state, computed = gate.init(Run(12)), 0
    for index in range(12):
        decision, state = gate.decide(state, Step(index, total=12), Seen())
        decision = Decision(Action.COMPUTE, "no anchors") if index == 1 else decision
        state = gate.record(state, Step(index, total=12), decision, Seen())
        computed += not decision.fills
    assert computed == 5


@pytest.mark.parametrize("inner", [Interval(3), Listed(frozenset({5}))])
def test_any_gate_can_be_inside(inner):
    assert len(run(Budget(inner, 7, (None, 0.1, 0.2)), [0.1] * 15)[0]) == 7


def test_errors_for_another_length_walk_the_same_path():
    errors = (None, 0.4, 0.3, 0.2, 0.1)
    for total in (3, 5, 9, 40):
        other = stretched(errors, total)
        assert len(other) == total and other[0] is None
        assert sum(other[1:]) == pytest.approx(1.0)
    assert stretched(errors, 3)[1:] == pytest.approx((0.7, 0.3))
