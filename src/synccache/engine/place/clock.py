"""Runs, steps, evaluations and guidance branches: what is told, else what the calls themselves show."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from torch import Tensor

from .branch import Branch
from .conditioning import Mark, Prints
from .evidence import Evidence
from .latents import FAR, FAR_ON_SCHEDULE, Latents, Likeness
from .schedule import UNKNOWN, Entry, Schedule, Time
from .told import SAME

EMPTIER = 0.02  # by so much of their latents two passes differ


class Clock:
    """Finds a call's place in its run.

    What is told is believed. Else a schedule whose timesteps are the ones that arrive says which step it is. Else the
    calls themselves do, by their timesteps, latents and conditioning: docs/engine.md says how.

    Attributes:
        run, step, evaluation: of the latest call, counted from 0; ``evaluation`` is 1 for the second of a Heun step.
        read: the tensors whose timesteps were read last, and these.
        sample: of the step's latent, to compare with.
        stride: how far the timestep moved last; ``highest``: at the run's start.
        steady: whether the latent has never moved further than the timestep, as it does where noise is added; None
            where it hasn't moved yet. ``doubtful``: the latent is hardly that of the step before, so nothing that was
            stored may be used.
        heard: schedules that the run has begun with, or that have told nothing since.
        entry: where the run stands in the schedule; None where that doesn't tell. ``length``: of the run, by it;
            ``strayed``: it was on a schedule whose timesteps have ceased to be the ones that arrive.
        windowed: the run has calls at one timestep with latents of their own that nobody told apart.
        called: branches that were called at this evaluation, ``leader`` first; ``expected``: at the one before.
    """

    def __init__(self) -> None:
        self.run = -1
        self.told_run: Hashable = None
        self.read: tuple[list[Mark], Time] = ([], UNKNOWN)
        self.forget()

    def forget(self) -> None:
        """The next call starts a new run."""
        self.step, self.evaluation, self.direction = -1, 0, 0
        self.time = UNKNOWN
        self.stride = self.highest = 0.0
        self.steady: bool | None = None
        self.doubtful = False
        self.latents: Latents | None = None
        self.sample: Tensor | None = None
        self.heard: list[Schedule] = []
        self.entry: Entry | None = None
        self.length: int | None = None
        self.strayed = False
        self.branches: list[Branch] = []
        self.called: list[Branch] = []
        self.leader: Branch | None = None
        self.expected = 0
        self.windowed = False

    def observe(self, e: Evidence, gone: Callable[[Mark], None]) -> None:
        """Take in one call and tell it where it belongs; ``gone`` hears of conditioning that nobody holds any more."""
        told, new_run = e.told, self._starts_run(e)
        if new_run:
            self.forget()
            self.run += 1
        kind = "step" if new_run or told.step not in (None, self.step) else self._kind(e)
        if kind == "step":
            self._move(e, new_run)
        elif kind != "pass":
            self.evaluation += 1
            self.windowed = self.windowed or kind == "window"
            following = None if self.entry is None else self.entry.next(e.time)
            if following is not None and following.evaluates:
                self.entry = following
        if told.run not in (None, SAME):
            self.told_run = told.run
        first = kind != "pass"
        if first:
            self.expected = len(self.called) if kind == "step" else self.expected
            self.called, self.time, self.latents = [], e.time, e.latents
            self.sample = e.sample if e.sample is not None else self.sample
        if e.likeness is not None and self.leader is not None:
            self.leader.empty = e.likeness.empty[1]
        branch = self._branch(e)
        self.leader = branch if first else self.leader
        self.called.append(branch)
        e.branch, e.new_run, e.new_evaluation = branch, new_run, first
        e.new_batch, branch.batch = branch.batch != e.latents.batch, e.latents.batch
        e.changed = branch.take(e.conditioning, e.prints, gone)

    def _starts_run(self, e: Evidence) -> bool:
        told = e.told
        if self.latents is None:
            return True
        if told.run is not None:
            return told.run is not SAME and told.run != self.told_run
        if told.step is not None:
            return told.step < self.step
        if e.latents.shape != self.latents.shape:
            return True
        if e.schedule is not None and e.schedule not in self.heard:
            if e.schedule.start(e.time) is not None:
                return True
            self.heard.append(e.schedule)
        if e.time == self.time:
            return False
        other = None if self.windowed else e.likeness  # of windows, each one looks like another picture
        if self.entry is not None and self.entry.next(e.time) is not None:
            return False
        back = self.direction != 0 and e.time.after(self.time) == -self.direction
        return back or (other is not None and (other.far(FAR) or (self.steady is True and self._leaps(e))))

    def _leaps(self, e: Evidence) -> bool:
        """Whether the latent has moved further than the timestep."""
        scale = 1 if max(e.time.high, self.time.high) <= 1 else 1000
        if e.likeness is None or self.windowed or e.time.high != e.time.low or 1 < self.highest < 100:
            return False  # nothing to compare with, or not known how far the timestep has moved
        way = self.stride if e.time == self.time else abs(e.time.high - self.time.high)
        return e.likeness.leaps(way / scale)

    def _move(self, e: Evidence, new_run: bool) -> None:
        """The call is the first of another step."""
        self.evaluation = 0
        if new_run:
            self.heard = [] if e.schedule is None else [e.schedule]
            self.entry = None if e.schedule is None else e.schedule.start(e.time)
            self.length = None if self.entry is None else self.entry.schedule.length(self.entry)
            self.highest = e.time.high
        else:
            leaps = self._leaps(e)
            self.doubtful = leaps and self.steady is None
            if e.likeness is not None and not e.likeness.same:
                self.steady = not leaps and self.steady is not False
            self.direction = self.direction or e.time.after(self.time)
            stride = abs(e.time.high - self.time.high) or abs(e.time.mean - self.time.mean)
            self.stride = stride or self.stride
            if self.entry is not None:
                self.doubtful = not self.windowed and e.likeness is not None and e.likeness.far(FAR_ON_SCHEDULE)
                self.entry = self.entry.next(e.time)
                if self.entry is None:
                    self.length, self.strayed = None, True
            self.doubtful = self.doubtful and e.told.run is None and e.told.step is None
        self.step = e.told.step if e.told.step is not None else self.step + 1

    def _kind(self, e: Evidence) -> str:
        """What a call is that isn't told to be of another step, nor of another run."""
        if e.told.step is None and e.time != self.time:
            return "step"
        if e.label is not None and all(b.label != e.label for b in self.called):
            return "pass"
        like = e.likeness or Likeness()
        if like.same or like.is_pass:
            return "pass"
        if like.far():
            return "window"
        known = any(b.likeness(e.conditioning, e.prints) for b in self.called)
        if e.label is None and e.conditioning.compared and not known:
            return "pass"
        if e.told.step is not None:
            return "evaluation"
        if self.steady is not False and self._leaps(e):
            return "window"
        if self.entry is None:
            rounded = e.time.rounding and self.stride <= 3 * e.time.rounding * abs(e.time.high)
            return "step" if rounded else "evaluation"
        following = self.entry.next(e.time)
        if following is None:  # the schedule has no second evaluation here
            return "window"
        return "evaluation" if following.evaluates else "step"

    def _branch(self, e: Evidence) -> Branch:
        free = [b for b in self.branches if b not in self.called]
        if e.label is not None:
            label, again = e.label, sum(b.label == e.label for b in self.called)
            found = next((b for b in free if (b.label, b.again) == (label, again)), None)
        else:
            label, again = len(self.branches), 0
            empty = e.likeness.empty[0] if e.likeness is not None else None
            empty = self.leader.empty if empty is None and self.leader is not None else empty
            fits = [b for b in self.branches if b.empty is None or empty is None or abs(b.empty - empty) < EMPTIER]
            alike = {b: score for b in fits if (score := b.likeness(e.conditioning, e.prints))}
            # Where none is alike, something has changed: what is the same in another would mislead, the order doesn't.
            found = max((b for b in alike or fits if b in free), key=lambda b: alike.get(b, 0), default=None)
        if found is None:
            found = Branch(label, again, e.latents.batch, e.prints or Prints(e.conditioning.compared))
            self.branches.append(found)
        found.empty = e.likeness.empty[0] if e.likeness is not None else found.empty
        return found

    @property
    def ended(self) -> bool:
        """Whether the run seems to have come to its end: one more stride would lead beyond the last timestep."""
        if self.step < 1 or not self.direction:
            return False
        left = self.time.high if self.direction < 0 else (1 if self.time.high <= 1 else 1000) - self.time.high
        return left <= 1.5 * self.stride

    @property
    def complete(self) -> bool:
        """Whether as many branches were called at this step as at the one before."""
        return len(self.called) >= self.expected
