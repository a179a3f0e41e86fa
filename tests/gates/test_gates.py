"""Gates alone: frozen settings, explicit state."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synccache.core.types import Action, Decision, Seen, Step, Tap, innermost
from synccache.gates import (
    Budget,
    FirstBlock,
    Growing,
    Interval,
    Last,
    Listed,
    Magnitudes,
    MaxGap,
    MaxSkips,
    Never,
    OutputChange,
    Probe,
    Refresh,
    Signal,
    Threshold,
    Trajectory,
    Turn,
    Warmup,
    replay,
    threshold_for,
)

ERRORS = (None, 0.5, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.4)


def computed(gate, errors=ERRORS):
    return [i for i, c in enumerate(replay(gate, errors)) if c]


def test_threshold_adds_up_and_starts_again():
    assert computed(Threshold(0.45), (None, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2)) == [0, 3, 6]
    assert computed(Threshold(0.0), (None, 0.2, 0.0, 0.2)) == [0, 1, 3]
    assert computed(Threshold(10.0)) == [0]


def test_threshold_reports_error_and_sum():
    gate = Threshold(1.0)
    decision, state = gate.decide(0.25, Step(3), Seen(ratios=((0.5,), (0.125,))))
    assert (decision.action, decision.error, decision.total) == (Action.FILL, 0.5, 0.75)
    assert gate.record(state, Step(3), decision, Seen()) == 0.75
    assert gate.record(state, Step(3), Decision(Action.COMPUTE), Seen()) == 0.0


@pytest.mark.parametrize("errors", [None, [math.nan], [math.inf], [0.0, math.nan], [math.nan, 0.0]])
def test_an_error_that_says_nothing_means_computing(errors):
    decision, _ = Threshold(1e9).decide(0.0, Step(3), Seen(ratios=errors and tuple((e,) for e in errors)))
    assert decision.action is Action.COMPUTE


def test_the_worst_sample_decides():
    assert Seen(ratios=((0.1,), (0.7,), (0.2,))).error == 0.7


def test_interval_and_list():
    assert computed(Interval(3), [None] * 8) == [0, 3, 6]
    assert computed(Interval(1), [None] * 4) == [0, 1, 2, 3]
    assert computed(Listed(frozenset({2, 5})), [None] * 8) == [0, 2, 5]
    assert computed(Never(), [None] * 3) == [0, 1, 2]


def test_wrappers():
    assert computed(Warmup(Listed(frozenset()), 3), [None] * 8) == [0, 1, 2]
    assert computed(Warmup(Listed(frozenset()), 0.25), [None] * 8) == [0, 1]
    assert computed(Last(Listed(frozenset()), 2), [None] * 8) == [0, 6, 7]
    assert computed(MaxGap(Listed(frozenset({1})), 3), [None] * 9) == [0, 1, 4, 7]
    assert innermost(Warmup(Last(Threshold(1.0, Probe(blocks=2))), 3)).measure == Probe(blocks=2)
    assert not innermost(Warmup(Never(), 3)).skips and innermost(Budget(Warmup(Interval(2), 3), 4)).skips


@pytest.mark.parametrize(
    ("gate", "blocks", "watched", "ratios"),
    [
        (Interval(3), 0, set(), 0), (Listed(frozenset({0}), probe=2), 2, set(), 0), (Never(), 0, set(), 0),
        (Never(Probe(1.0)), 1, {"probe"}, 1), (Threshold(0.1), 1, {"probe"}, 1),
        (Threshold(0.1, Signal()), 0, {"signal"}, 1), (Threshold(0.1, OutputChange()), 0, {"latent", "output"}, 1),
        (Threshold(0.1, Trajectory(blocks=2)), 2, {"probe", "residual"}, 2), (FirstBlock(0.1, 3), 3, {"residual"}, 1),
        (Growing(probe=1), 1, set(), 0), (Refresh((1,)), 0, set(), 0), (Magnitudes((1.0,), 0.1), 0, set(), 0),
    ],
)  # fmt: skip
def test_a_gate_tells_what_it_looks_at_by_its_measure(gate, blocks, watched, ratios):
    for wrapped in (gate, Warmup(MaxSkips(gate, 3), 2), Budget(Last(gate), 4)):
        measure = innermost(wrapped).measure
        assert (measure.blocks, set(measure.watches), measure.ratios) == (blocks, watched, ratios)
    assert isinstance(hash(gate), int) and gate == replace(gate)
    assert not any(hasattr(Warmup(gate), name) for name in ("measure", "probe", "watches", "skips"))


@pytest.mark.parametrize(
    ("gate", "needed"),
    [
        (Last(Never(), 1), True), (Last(Never(), 0), False), (Warmup(Never(), 0.5), True), (Warmup(Never(), 3), False),
        (Warmup(Never(), 0), False), (Turn(2), True), (Turn(2, turn=7), False), (Refresh((1,)), True),
        (Budget(Never(), 3), True), (Magnitudes((1.0,), 0.1), True), (Interval(2), False), (Threshold(0.1), False),
    ],
)  # fmt: skip
def test_gates_that_go_by_the_length_of_a_run_say_so(gate, needed):
    assert getattr(gate, "needs_length", False) is needed


def test_a_length_that_nobody_tells():
    assert Warmup(Never(), 0.1).count(None) == 4 and Warmup(Never(), 0.1).count(20) == 2
    decision, _ = Last(Listed(frozenset()), 1).decide((None, 0, None), Step(39, total=None), Seen())
    assert decision.fills


def test_a_forced_step_starts_the_sum_again():
    errors = (None, 0.4, 0.4, 0.4, 0.4)
    assert computed(Threshold(0.5), errors) == [0, 2, 4]
    assert computed(Warmup(Threshold(0.5), 2), errors) == [0, 1, 3]


def test_interval_counts_from_a_forced_step():
    assert computed(Warmup(Interval(3), 2), [None] * 8) == [0, 1, 4, 7]


@given(
    st.lists(st.floats(0, 1), min_size=4, max_size=12), st.integers(1, 12), st.integers(0, 3), st.integers(0, 2),
    st.one_of(st.none(), st.integers(2, 6)),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_threshold_for_is_as_near_as_any_threshold(errors, wanted, warmup, last, gap):
    gate = Threshold(0.0)
    gate = MaxGap(gate, gap) if gap else gate
    gate = Last(gate, last) if last else gate
    gate = Warmup(gate, warmup) if warmup else gate
    from synccache.gates.replay import with_threshold

    recorded = [None, *errors]
    found = sum(replay(with_threshold(gate, threshold_for(gate, recorded, wanted)), recorded))
    sums = {0.0} | {sum(errors[i:j]) for i in range(len(errors)) for j in range(i + 1, len(errors) + 1)}
    reachable = {sum(replay(with_threshold(gate, s * f), recorded)) for s in sums for f in (0.999999, 1.000001)}
    assert abs(found - wanted) <= min(abs(r - wanted) for r in reachable)


def probe_error(probe, now, before, mask=None):
    n, d = probe.measure(Seen({"probe": Tap(now, before)}, mask)).unbind(-1)
    return (n / d).tolist()


def test_the_probe_by_hand():
    before, now = torch.full((1, 2, 3), 2.0), torch.tensor([[[3.0] * 3, [2.5] * 3]])
    assert probe_error(Probe(omega=2), now, before) == [0.375]
    # w = 2 on the first token: (2·3 + 1·1.5) / (2·6 + 1·6)
    assert probe_error(Probe(omega=2), now, before, torch.tensor([[1.0, 0.0]])) == pytest.approx([7.5 / 18])
    assert probe_error(Probe(omega=1), now, before, torch.tensor([[1.0, 0.0]])) == [0.375]
    assert probe_error(Probe(omega=2), now, before, torch.ones(1, 2)) == [0.375]


def test_the_probe_keeps_samples_apart_and_reads_half_precision():
    before = torch.ones(2, 4, 3, dtype=torch.bfloat16)
    now = before.clone()
    now[1] = 1.5
    assert probe_error(Probe(), now, before) == [0.0, 0.5]
    assert Probe().measure(Seen({"probe": Tap(now)})) is None
