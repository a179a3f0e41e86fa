"""Seconds of steps: what counts as one, what a skipped one costs, and clocks that can't be read yet."""

import time

import pytest
import torch

from synccache.trace.timing import Timing

CPU = torch.device("cpu")


class Event:
    """In the place of a GPU's event: passed when ``done``, at the time ``at`` in milliseconds."""

    def __init__(self, at, done=True):
        self.at, self.done = at, done

    def query(self):
        return self.done

    def synchronize(self):
        self.done = True

    def elapsed_time(self, other):
        return other.at - self.at


@pytest.fixture
def clock(monkeypatch):
    """Calls of ``seconds`` on a clock of its own."""
    timing, now = Timing(), [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def call(seconds, step, skipped, whose=None, after=0.0):
        now[0] += after
        mark = timing.start(CPU)
        now[0] += seconds
        timing.stop(mark, whose, step, skipped)

    return timing, call


def test_a_step_is_all_its_calls(clock):
    timing, call = clock
    for step, (seconds, skipped) in enumerate(
        [(9, False), (2, False), (2, False), (0.5, True), (0.25, True), (2, False)]
    ):
        call(seconds, step, skipped)
        call(seconds, step, skipped)
    timing.finish()
    assert (timing.computed.count, timing.computed.seconds) == (4, 30)
    assert (timing.skipped.count, timing.skipped.seconds) == (2, 1.5)
    assert timing.seconds == 31.5
    assert timing.computed.typical == 4  # the first one warms up
    assert timing.cost == 0.5 / 4 and timing.uncached == 31.5 - 1.5 + 2 * 4


def test_what_the_solver_takes_makes_skipping_dearer(clock):
    timing, call = clock
    for step in range(8):
        call(0.5 if step % 2 else 2.0, step, bool(step % 2), after=0.5)
    timing.finish()
    assert timing.cost == (0.5 + 0.5) / (2 + 0.5) and timing.seconds == 10


def test_others_in_between_are_not_the_solver(clock):
    timing, call = clock
    for step in range(8):
        for whose in "ab":
            call(0.5 if step % 2 else 2.0, step, bool(step % 2), whose, after=1)
    timing.finish()
    assert timing.cost == 0.5 / 2 and not timing.between


def test_a_step_of_both_kinds_counts_in_all_only(clock):
    timing, call = clock
    call(1, 0, False)
    call(1, 1, True)
    call(1, 1, False)
    call(1, 2, False)
    timing.finish()
    assert timing.seconds == 4 and timing.skipped.count == 0 and timing.computed.count == 2
    assert timing.cost is None


def test_steps_of_several_are_told_apart(clock):
    timing, call = clock
    for step in range(3):
        for whose in "ab":
            call(1 if whose == "a" else 2, step, False, whose)
    timing.finish()
    assert timing.computed.count == 6 and timing.computed.seconds == 9


def test_events_are_read_when_they_have_passed():
    """A device that is behind makes nobody wait; what is under way is counted at a later call, or at the end."""
    timing, late = Timing(), Event(30, done=False)
    for step, (start, end) in enumerate([(Event(0), Event(10)), (Event(10), late), (Event(30), Event(45))]):
        timing._under_way.append((None, step, False, start, end))
    timing.stop((torch.device("mps"), None), None, 3, False)  # nothing is measured here, but what was is looked at
    assert timing.seconds == pytest.approx(0.010)
    timing.finish()
    assert timing.seconds == pytest.approx(0.045) and timing.computed.count == 3


def test_what_has_no_clock_is_not_measured():
    timing = Timing()
    timing.stop(timing.start(torch.device("meta")), None, 0, False)
    timing.finish()
    assert timing.seconds == 0 and timing.computed.count == 0
