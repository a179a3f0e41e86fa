"""How long a run will be, from a scheduler that nobody has to import."""

from __future__ import annotations

from typing import Any


def schedule_of(pipeline: Any) -> Any:
    """An object that changes identity when the pipeline's scheduler is set anew; None without a scheduler."""
    return getattr(getattr(pipeline, "scheduler", None), "timesteps", None)


def run_length(timesteps: Any, first: float) -> int | None:
    """Number of steps from the timestep ``first`` to the end of a scheduler's ``timesteps``, or None.

    The transformer may get the scheduler's timesteps scaled to 0..1, or counted from the other end. Repeated
    timesteps (Heun) are one step.
    """
    if timesteps is None:
        return None
    values = [float(t) for t in (timesteps.tolist() if hasattr(timesteps, "tolist") else timesteps)]
    distinct = list(dict.fromkeys(values))
    best = None
    for scaled in (distinct, [t / 1000 for t in distinct], [1 - t / 1000 for t in distinct], [1 - t for t in distinct]):
        tolerance = min(1e-3 * max(map(abs, scaled), default=1.0), 0.5)
        found = [i for i, t in enumerate(scaled) if abs(t - first) <= tolerance]
        if found and (best is None or found[0] < best):  # runs begin at or near the schedule's start
            best = found[0]
    return (len(distinct) - (best or 0)) or None
