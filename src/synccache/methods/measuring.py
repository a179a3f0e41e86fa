"""What methods share that add up a measured error until it exceeds a threshold."""

from __future__ import annotations

from ..core.types import Gate, Measure
from ..gates import Budget, Threshold
from .recipe import Settings, protected

SUMMED = {"computed_steps": None, "warmup": None, "last": None, "max_gap": None}


def summing_gate(s: Settings, measure: Measure) -> Gate:
    """Threshold on the sum of what ``measure`` gives, or exactly as many steps as ``computed_steps`` says, spread
    evenly; protected."""
    if s["computed_steps"] is None:
        return protected(Threshold(s["threshold"], measure), s)
    return Budget(protected(Threshold(0.0, measure), s), s["computed_steps"])
