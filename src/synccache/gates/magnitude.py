"""MagCache's rule: how far the residual's magnitude has drifted since a computed step, by ratios known before."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.types import Action, Decision, Run, Seen, Step
from .scheduled import Scheduled


@dataclass(frozen=True)
class State:
    """``ratios`` for this run's steps; since the last computed step: their product, the summed errors, the skips."""

    ratios: tuple[float, ...]
    product: float = 1.0
    error: float = 0.0
    skips: int = 0


@dataclass(frozen=True)
class Magnitudes(Scheduled):
    """``P <- P gamma_i``, ``E <- E + |1 - P|``; skips while ``E < threshold`` and at most ``max_skips`` times in a row.

    gamma_i is the mean over tokens of ``|R_i|_2 / |R_{i-1}|_2``, R the residual of the whole stack. It hardly depends
    on what is generated, so it is measured once, and nothing is looked at while running. A computed step starts P and E
    again.

    Paper: MagCache, arXiv 2506.09045; read in its release, which compares E with ``<`` for Wan (as here) and with
    ``<=`` for HunyuanVideo.

    Args:
        ratios: gamma of each step of a run, the first one 1. For a run of another length the nearest ones are taken, as
            the release does; steps beyond them, in a run whose length nobody tells, are computed.
        threshold: for E, over 0.
        max_skips: None: any number.
    """

    ratios: tuple[float, ...]
    threshold: float
    max_skips: int | None = None
    probe: int = 0
    needs_length = True

    def init(self, run: Run) -> State:
        return State(nearest(self.ratios, run.total or len(self.ratios)))

    def decide(self, state: State, step: Step, seen: Seen) -> tuple[Decision, State]:
        if step.index >= len(state.ratios):
            return Decision(Action.COMPUTE, "no ratio known"), state
        if step.evaluation:  # of a step that was already counted
            return Decision(Action.FILL, "drift", total=state.error), state
        product, skips = state.product * state.ratios[step.index], state.skips + 1
        error = abs(1 - product)
        state = State(state.ratios, product, state.error + error, skips)
        over = state.error >= self.threshold or (self.max_skips is not None and skips > self.max_skips)
        return Decision(Action.COMPUTE if over else Action.FILL, "drift", error, state.error), state

    def record(self, state: State, step: Step, decision: Decision, seen: Seen) -> State:
        return state if decision.fills else State(state.ratios)


def nearest(ratios: tuple[float, ...], total: int) -> tuple[float, ...]:
    """Ratios for a run of ``total`` steps: entry i is the one that lies nearest to i, both runs end to end."""
    if total == len(ratios) or not ratios:
        return ratios
    stride = (len(ratios) - 1) / (total - 1) if total > 1 else 0.0
    return tuple(ratios[round(i * stride)] for i in range(total))
