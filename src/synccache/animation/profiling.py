"""What a model is profiled on."""

from __future__ import annotations

import numpy as np


def loudest(wave: np.ndarray, samples: int) -> np.ndarray:
    """The stretch of ``samples`` (or all, where there are fewer) with the most energy in it."""
    if wave.size <= samples:
        return wave
    energy = np.concatenate([[0.0], np.cumsum(wave.astype(np.float64) ** 2)])
    start = int(np.argmax(energy[samples:] - energy[:-samples]))
    return wave[start : start + samples]
