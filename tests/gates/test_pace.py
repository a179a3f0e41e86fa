"""A wanted speed-up as a number of computed steps, also where what a skipped step costs is found out on the way."""

from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from synccache import InputError
from synccache.core.pace import LEAST, PRESETS, Pace, speed_of
from synccache.core.types import Decision, Run, Seen, Step
from synccache.gates import Budget, Last, Threshold, Warmup

SPEEDS, COSTS, TOTALS = st.floats(1, 8), st.floats(0, 0.6), st.integers(10, 80)


def speed_up(total, computed, cost):
    return total / (computed + (total - computed) * cost)


@given(SPEEDS, COSTS, TOTALS)
def test_the_number_of_steps_gives_the_speed(speed, cost, total):
    """Half a step off at most; as many as there are, or as few as may be, where that can't be."""
    pace = Pace(speed, cost)
    steps = pace.steps(total)
    assert LEAST <= steps <= total
    nearest = min(range(LEAST, total + 1), key=lambda n: abs(1 / speed_up(total, n, cost) - 1 / speed))
    assert abs(steps - nearest) <= 1
    assert pace.is_reached(total) or steps == LEAST
    assert pace.highest(total) == pytest.approx(speed_up(total, LEAST, cost))


def test_examples():
    assert [Pace(speed, 0.1).steps(40) for speed in (1, 2, 3, 4)] == [40, 18, 10, 7]
    assert Pace(10).steps(40) == 5 and not Pace(10).is_reached(40) and Pace(8).is_reached(40)
    assert Pace(3).steps(4) == 4


def ran(total, pace, costs, errors=None, warmup=0.1):
    """The steps that a run computes under a pace whose cost is ``costs[i]`` from step i on."""
    gate = Budget(Warmup(Last(Threshold(0.0), 1), warmup), pace, errors)
    state, computed = gate.init(Run(total)), []
    for index in range(total):
        pace.cost = costs.get(index, pace.cost)
        step, seen = Step(index, total=total), Seen(ratios=((0.1,),)) if errors else Seen()
        decision, state = gate.decide(state, step, seen)
        assert index or not decision.fills
        state = gate.record(state, step, decision, seen)
        computed += [] if decision.fills else [index]
    return computed


@settings(deadline=None)
@given(SPEEDS, COSTS, COSTS, st.integers(1, 40), TOTALS, st.booleans())
def test_a_cost_that_turns_out_otherwise_is_followed_from_then_on(speed, guess, cost, when, total, profiled):
    """What was computed can't be taken back, nor what was skipped; the rest is as dense as it would have been."""
    assume(when < total)
    errors = (None, *[0.1] * (total - 1)) if profiled else None
    steps = ran(total, Pace(speed, guess), {when: cost}, errors)
    fresh = ran(total, Pace(speed, cost), {}, errors)
    wanted, before = Pace(speed, cost).steps(total), sum(step < when for step in steps)
    left = sum(step >= when for step in fresh)
    assert len(fresh) == wanted and steps[-1] == total - 1
    assert len(steps) == min(max(wanted, before + left), before + total - when)

    def widest(steps):
        return max((b - a for a, b in pairwise([when - 1, *[s for s in steps if s >= when]])), default=0)

    assert profiled or widest(steps) <= max(widest(fresh), max(b - a for a, b in pairwise(fresh))) + 1


@pytest.mark.parametrize("value", [0.5, 0, -1, float("nan"), float("inf"), "warp", True, None, [3]])
def test_what_is_no_speed_is_refused(value):
    with pytest.raises(InputError, match=r"balanced \(3\)"):
        speed_of(value)


def test_presets():
    assert {name: speed_of(name.upper()) for name in PRESETS} == PRESETS == {"quality": 2, "balanced": 3, "fast": 4}
    assert speed_of("2.5") == speed_of(2.5) == 2.5


def test_the_first_step_is_computed_whatever_the_pace():
    gate = Budget(Threshold(0.0), Pace(4, 0.9))
    decision, _ = gate.decide(gate.init(Run(10)), Step(0, total=10), Seen())
    assert isinstance(decision, Decision) and not decision.fills
