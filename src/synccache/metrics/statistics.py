"""How sure a mean over clips is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def paired_bootstrap(
    differences: Sequence[float] | Any, n: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[float, float, float]:
    """Mean of differences paired by clip, with a percentile bootstrap interval.

    Args:
        differences: [clips], one contender minus the other on the same clip.
        n: resamplings.
        seed: equal seeds give equal intervals.
        level: how often the interval should hold the true mean.

    Returns:
        mean, low, high. With one clip all three are equal.

    Raises:
        ValueError: no differences, some not finite, or a level outside 0..1.
    """
    values = np.asarray(differences, np.float64).ravel()
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"differences must be finite and at least one, but are {values.tolist()}")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie between 0 and 1, but is {level}")
    chosen = np.random.default_rng(seed).integers(values.size, size=(n, values.size))
    low, high = np.quantile(values[chosen].mean(1), [(1 - level) / 2, (1 + level) / 2])
    return float(values.mean()), float(low), float(high)
