"""A wanted speed-up as a number of computed steps."""

from __future__ import annotations

from ..errors import InputError

PRESETS = {"quality": 2.0, "balanced": 3.0, "fast": 4.0}
LEAST = 5  # computed steps of a run: with fewer, what is filled in has too little to rest on


class Pace:
    """How many steps of a run to compute so that denoising is ``speed`` times faster.

    A skipped step costs ``cost`` of a computed one. A run of T steps, N of them computed, then takes N + (T - N) cost
    computed steps' time, so N = T (1 / speed - cost) / (1 - cost), rounded, and at least ``LEAST``.

    Args:
        speed: the wanted speed-up, at least 1.
        cost: an estimate, until ``cost`` is measured (``engine.timing``).

    Example:
        >>> Pace(3, cost=0.1).steps(40)
        10
    """

    def __init__(self, speed: float, cost: float = 0.0) -> None:
        self.speed, self.cost = speed, cost

    def steps(self, total: int, cost: float | None = None) -> int:
        """Steps to compute in a run of ``total``."""
        return min(total, max(LEAST, round(self._exact(total, self.cost if cost is None else cost))))

    def highest(self, total: int) -> float:
        """The highest speed-up of a run of ``total`` steps: with ``LEAST`` computed steps."""
        least = min(LEAST, total)
        return total / (least + (total - least) * self.cost)

    def is_reached(self, total: int) -> bool:
        """Whether as few steps as the speed-up takes may be computed."""
        return total <= LEAST or round(self._exact(total, self.cost)) >= LEAST

    def learn(self, cost: float | None, total: int, ends: bool) -> str | None:
        """What a skipped step of a run of ``total`` steps was found to cost; None: nothing was found.

        Returns what to say where the run ends and was not as fast as wanted, since it can't be.
        """
        self.cost = self.cost if cost is None else cost
        if cost is None or not ends or self.is_reached(total):
            return None
        return (
            f"speed={self.speed:g} can't be had here: a skipped step costs {cost:.0%} of a computed one, so with "
            f"{self.steps(total)} of {total} steps computed, the fewest that are, a run is {self.highest(total):.1f} "
            "times faster. Ask for that at most, or for another method."
        )

    def _exact(self, total: int, cost: float) -> float:
        return total * (1 / self.speed - cost) / (1 - cost) if cost < 1 else 0.0


def steps_of(wanted: int | Pace, total: int, cost: float | None = None) -> int:
    """Steps to compute in a run of ``total``, by their number or by a pace."""
    return wanted.steps(total, cost) if isinstance(wanted, Pace) else wanted


def speed_of(value: float | str) -> float:
    """A speed-up as users give it: a number of at least 1, or a preset's name.

    Raises:
        InputError: it is neither.
    """
    number = PRESETS.get(value.strip().lower(), value) if isinstance(value, str) else value
    try:
        speed = float("nan") if isinstance(number, bool) else float(number)
    except (TypeError, ValueError):
        speed = float("nan")
    if not 1 <= speed < float("inf"):
        names = ", ".join(f"{name} ({speed:g})" for name, speed in PRESETS.items())
        raise InputError(f"speed={value!r} can't be used: speed is a number of at least 1, or one of {names}.")
    return speed


def skipped_cost(blocks: int, sites: int) -> float:
    """An estimate, before anything was timed, of what a skipped step costs: one block runs, and what is injected at
    ``sites`` between them at 7 % of a block each (as in Wan2.2-S2V), embedding and head at 1 % of the model."""
    return min(1.0, 0.01 + (1 + 0.07 * sites) / blocks) if blocks else 0.0
