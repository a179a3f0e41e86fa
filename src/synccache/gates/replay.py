"""What a gate would have decided on recorded errors, and the threshold that gives a wanted number of computed steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..core.types import Action, Decision, Gate, Run, Seen, Step
from .threshold import Threshold


def replay(gate: Gate, errors: Sequence[float | None]) -> list[bool]:
    """For each recorded step, whether ``gate`` would have computed it. The first step always is."""
    state, computed = gate.init(Run(len(errors))), []
    for index, error in enumerate(errors):
        step, seen = Step(index, total=len(errors)), Seen(ratios=None if error is None else ((error,),))
        decision, state = gate.decide(state, step, seen)
        if index == 0:
            decision = Decision(Action.COMPUTE, "first step")
        state = gate.record(state, step, decision, seen)
        computed.append(not decision.fills)
    return computed


def with_threshold(gate: Any, threshold: float) -> Any:
    """The same gate with another threshold inside."""
    if isinstance(gate, Threshold):
        return replace(gate, threshold=threshold)
    return replace(gate, gate=with_threshold(gate.gate, threshold)) if hasattr(gate, "gate") else gate


def threshold_for(gate: Gate, errors: Sequence[float | None], computed_steps: int) -> float:
    """The threshold at which ``gate`` computes ``computed_steps`` of the recorded steps, or as near as it gets.

    The number of computed steps only falls as the threshold rises, and only at sums of consecutive errors: those are
    searched by bisection, and the middle of the range that gives the number is taken.

    Args:
        gate: with a ``Threshold`` inside.
        errors: of every step of a fully computed run; None where nothing was measured.
        computed_steps: how many to compute.
    """
    known = [0.0 if e is None or not math.isfinite(e) else e for e in errors]
    sums = {0.0}
    for start in range(len(known)):
        total = 0.0
        for e in known[start:]:
            total += e
            sums.add(total)
    levels = sorted(sums)

    def count(level: int) -> int:
        return sum(replay(with_threshold(gate, levels[level]), errors))

    def lowest(most: int) -> int:
        """Index of the lowest level at which at most ``most`` steps are computed; len(levels) if there is none."""
        low, high = 0, len(levels)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if count(middle) <= most else (middle + 1, high)
        return low

    first = lowest(computed_steps)
    if first == len(levels):  # even the highest threshold computes more: forced steps
        return levels[-1]
    reached = count(first)
    if first > 0 and count(first - 1) - computed_steps < computed_steps - reached:
        first, reached = first - 1, count(first - 1)
        first = lowest(reached)
    after = lowest(reached - 1)
    upper = levels[after] if after < len(levels) else levels[-1] * 1.1 + 1e-6
    return (levels[first] + upper) / 2
