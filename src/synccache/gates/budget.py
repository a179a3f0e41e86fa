"""Compute a given number of steps, exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from ..core.pace import Pace, steps_of
from ..core.types import Action, Decision, Gate, Run, Seen, Step
from .even import protected_ends, spread, stretched
from .listed import Listed
from .replay import replay, threshold_for, with_threshold


@dataclass(frozen=True)
class State:
    """Of one run.

    Attributes:
        gate, inner: what chooses the steps, and its state.
        total: the run's length.
        asked, wanted: how many of its steps to compute by the pace, and after what happened so far.
        first, last: how many steps at its ends are computed whatever the gate says.
        known: recorded errors of a run of that length; empty: there are none.
        sums: this run's errors so far, and the recorded ones of the same steps, added up.
        computed: how many steps were.
        done: the latest step and what was done.
    """

    gate: Gate
    inner: Any
    total: int
    asked: int
    wanted: int
    first: int
    last: int
    known: tuple[float | None, ...] = ()
    sums: tuple[float, float] = (0.0, 0.0)
    computed: int = 0
    done: tuple[int, Action] = (-1, Action.COMPUTE)

    @property
    def scale(self) -> float:
        """How large this run's errors are, in units of the recorded ones."""
        own, known = self.sums
        return own / known if known > 0 and own / known > 1e-9 else 1.0

    def measured(self, step: Step, error: float | None) -> State:
        """After an error of this run was measured."""
        known = self.known[step.index] if step.index < len(self.known) else None
        if error is None or known is None or not math.isfinite(error):
            return self
        own, before = self.sums
        return replace(self, sums=(own + error, before + (0.0 if step.evaluation else known)))


@dataclass(frozen=True)
class Budget:
    """Computes ``computed_steps`` steps of a run, never more and never fewer, also in the first run.

    With ``errors`` it finds the threshold at which ``gate`` would have computed that many of the recorded steps. This
    run's errors are others: where they are larger or smaller on the whole, they are scaled. Besides it counts: when the
    number is reached it fills in the rest, and when only as many steps are left as it still has to compute, it computes
    them. ``Warmup`` and ``Last`` inside ``gate`` keep their steps, ``MaxGap`` gives way. Where the number is too small
    for both, the warm-up is shortened; the first step is always computed.

    Without ``errors`` it computes the warm-up (at most a third of the number), the last steps, and the others at even
    distances in between.

    With a ``Pace`` the number follows from the run's length and from what a skipped step costs. Where that turns out to
    be another while the run is under way, the rest of it is planned anew.

    A run whose length nobody tells is computed in full. Second evaluations of a step (Heun) do as the step did and
    don't count. Wrap it around the other wrappers: what is forced from outside, it can't reserve.

    Args:
        gate: with a ``Threshold`` inside.
        computed_steps: how many steps of a run to compute, or the pace that it is to have.
        errors: of each step of a recorded run; for a run of another length they are ``stretched``.
    """

    gate: Gate
    computed_steps: int | Pace
    errors: tuple[float | None, ...] | None = None
    needs_length = True

    def init(self, run: Run) -> State | None:
        if run.total is None:
            return None
        asked = min(steps_of(self.computed_steps, run.total), run.total)
        known = stretched(self.errors, run.total) if self.errors is not None and len(self.errors) > 1 else ()
        gate, first, last, _ = self._plan(run.total, asked, known)
        return State(gate, gate.init(run), run.total, asked, asked, first, last, known)

    def _plan(self, total: int, wanted: int, known: tuple[float | None, ...]) -> tuple[Gate, int, int, tuple[int, ...]]:
        """What chooses ``wanted`` steps of a run, how many at its ends are computed whatever that says, and which steps
        it would be by what is known."""
        first, last = protected_ends(self.gate, total, wanted)
        if known:
            gate = with_threshold(self.gate, threshold_for(self.gate, known, wanted))
            return gate, first, last, tuple(i for i, computed in enumerate(replay(gate, known)) if computed)
        first = min(first, max(1, wanted // 3))  # or else few steps would be left for the rest of the run
        steps = spread(total, wanted, first, last)
        return Listed(frozenset(steps)), first, last, steps

    def _replanned(self, state: State, index: int) -> State:
        """The same run from step ``index`` on, where its pace now asks for another number of steps. What is left of it
        gets no fewer of them than in a run of that number from the start on, however many are computed already: a run
        ends in no gap because it began too slowly."""
        asked = min(steps_of(self.computed_steps, state.total), state.total)
        if asked == state.asked or state.done[0] >= index:
            return state
        gate, first, last, steps = self._plan(state.total, asked, state.known)
        before = min(sum(step < index for step in steps), asked - last)  # of such a run
        wanted = max(asked, state.computed + asked - before)
        if not state.known:
            left = wanted - state.computed
            rest = spread(state.total - index, left, max(0, first - index), min(last, left))
            gate = Listed(frozenset(index + step for step in rest))
        return replace(state, gate=gate, asked=asked, wanted=wanted, first=first, last=last)

    def decide(self, state: State | None, step: Step, seen: Seen) -> tuple[Decision, State | None]:
        if state is None:
            return Decision(Action.COMPUTE, "length unknown", seen.error), None
        if state.done[0] < 0 < step.index:  # begun within a run, whose length or parts weren't known so far
            state = replace(state, computed=step.index)
        state = self._replanned(state, step.index)
        state = state.measured(step, seen.error)
        decision, inner = state.gate.decide(state.inner, step, scaled(seen, state.scale))
        total = None if decision.total is None else decision.total * state.scale
        decision = replace(decision, error=seen.error, total=total)
        action, reason = self._bound(state, step)
        if action is not None and decision.fills != (action is Action.FILL):
            decision = replace(decision, action=action, actions=None, reason=reason)
        return decision, replace(state, inner=inner)

    def record(self, state: State | None, step: Step, decision: Decision, seen: Seen) -> State | None:
        if state is None:
            return None
        inner = state.gate.record(state.inner, step, decision, seen)
        if step.evaluation and state.done[0] == step.index:
            return replace(state, inner=inner)
        done = step.index, Action.FILL if decision.fills else Action.COMPUTE
        return replace(state, inner=inner, computed=state.computed + (not decision.fills), done=done)

    def _bound(self, state: State, step: Step) -> tuple[Action | None, str]:
        """What this step has to do, and why; None where the gate may choose."""
        left, to_compute = state.total - step.index, state.wanted - state.computed
        if step.evaluation and state.done[0] == step.index:
            return state.done[1], "second evaluation"
        if to_compute <= 0:
            return Action.FILL, "budget spent"
        if left <= to_compute:
            return Action.COMPUTE, "budget"
        if step.index < state.first:
            return Action.COMPUTE, "warm-up"
        if left <= state.last:
            return Action.COMPUTE, "last"
        return (Action.FILL, "budget spent") if to_compute <= state.last else (None, "")


def scaled(seen: Seen, scale: float) -> Seen:
    """The same with errors in units of ``scale``."""
    if scale == 1.0 or seen.ratios is None:
        return seen
    return replace(seen, ratios=tuple((ratios[0] / scale, *ratios[1:]) for ratios in seen.ratios))
