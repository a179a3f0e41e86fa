"""Whether lips follow the sound. Tracks are float [T], one value per video frame; tensors and arrays alike."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

Track = Any  # torch.Tensor | np.ndarray | sequence of floats, [T]


def pearson(a: Track, b: Track) -> float:
    """Correlation in −1..1; 0 where either track is constant or shorter than two.

    Raises:
        ValueError: the lengths differ.
    """
    x, y = _array(a), _array(b)
    if x.size != y.size:
        raise ValueError(f"tracks differ in length: {x.size} and {y.size} frames")
    if x.size < 2:
        return 0.0
    # Scaled first, so that neither tiny nor huge values under- or overflow when squared.
    scale_x, scale_y = np.abs(x).max(), np.abs(y).max()
    x = x / scale_x if scale_x > 0 else x
    y = y / scale_y if scale_y > 0 else y
    x, y = x - x.mean(), y - y.mean()
    spread = math.sqrt(float(x @ x)) * math.sqrt(float(y @ y))
    if min(np.abs(x).max(), np.abs(y).max()) < 1e-9:
        return 0.0
    return float(np.clip(x @ y / spread, -1.0, 1.0))


def sync(opening: Track, envelope: Track, max_lag: int = 3) -> dict[str, float | int]:
    """How well the mouth follows the sound, and how late it is.

    Args:
        opening: the mouth's opening, [T].
        envelope: the sound's, [T]: the true opening, or `audio_envelope`.
        max_lag: how many frames to look either way, as far as half of the clip still overlaps.

    Returns:
        `correlation` at lag 0; `best_lag` in frames, positive where the mouth comes late; `best_correlation` there.
    """
    x, y = _array(opening), _array(envelope)
    if x.size != y.size:
        raise ValueError(f"tracks differ in length: {x.size} and {y.size} frames")
    at_zero = pearson(x, y)
    best, best_lag = at_zero, 0
    for size in range(1, min(max_lag, x.size // 2) + 1):
        for lag in (size, -size):
            late, early = (x[lag:], y[:-lag]) if lag > 0 else (x[:lag], y[-lag:])
            found = pearson(late, early)
            if found > best + 1e-12:
                best, best_lag = found, lag
    return {"correlation": at_zero, "best_lag": best_lag, "best_correlation": best}


def speaking_range(opening: Track) -> float:
    """The part of its scale that a mouth uses: 95th minus 5th percentile of [T]."""
    values = _array(opening)
    return float(np.quantile(values, 0.95) - np.quantile(values, 0.05)) if values.size else 0.0


def opening_rms(a: Track, b: Track, span: float) -> float:
    """Root mean square of a − b, both [T], as a part of the speaking range `span` (see `speaking_range`).

    Raises:
        ValueError: the lengths differ, or `span` isn't above 0.
    """
    x, y = _array(a), _array(b)
    if x.size != y.size:
        raise ValueError(f"tracks differ in length: {x.size} and {y.size} frames")
    if not span > 0.0:
        raise ValueError(f"the speaking range must be above 0, but is {span}")
    return float(np.sqrt(np.mean((x - y) ** 2)) / span) if x.size else 0.0


def audio_envelope(waveform: Track, frames: int, rate: int = 16_000, fps: float = 12.5) -> np.ndarray:
    """Loudness of the sound around each video frame: RMS under a Hann window of 2.5 frames.

    Args:
        waveform: float [samples]; beyond its end there is silence.
        frames: how many values, T.

    Returns:
        float64 [T], 0 in silence.
    """
    wave = _array(waveform)
    step = rate / fps
    window = np.hanning(round(2.5 * step) + 2)[1:-1]
    window /= window.sum()
    reach = window.size // 2
    needed = math.ceil(frames * step) + 2 * window.size
    padded = np.pad(wave, (reach, max(0, needed - wave.size)))
    starts = [round((t + 0.5) * step) for t in range(frames)]
    power = np.array([padded[s : s + window.size] ** 2 @ window for s in starts])
    return np.sqrt(power)


def _array(values: Track) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().to("cpu", torch.float64).numpy()
    return np.asarray(values, np.float64).ravel()
