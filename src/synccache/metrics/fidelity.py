"""How close two clips are. Clips are float [T, H, W, 3] in 0..data_range; tensors and arrays alike."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from skimage.metrics import structural_similarity

CAP_DB = 100.0  # what equal clips get, so that means and JSON stay finite

Clip = Any  # torch.Tensor | np.ndarray, float [T, H, W, 3] or [H, W, 3]


def psnr(a: Clip, b: Clip, mask: Clip | None = None, data_range: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB over a whole clip: 10 log10(range² / MSE), at most CAP_DB.

    0 where a pixel that counts isn't a finite number, as in the clip of a method that has diverged.

    Args:
        a, b: [T, H, W, 3], or shapes that broadcast to it (a still picture against a clip).
        mask: weights of the pixels, [H, W] or [T, H, W], 0 or more; soft edges are fine. None weighs all alike.
        data_range: the largest value a pixel can have.

    Raises:
        ValueError: the shapes don't match, or the mask is negative or 0 everywhere.
    """
    x, y = _array(a), _array(b)
    if x.shape[-3:] != y.shape[-3:]:
        raise ValueError(f"clips differ in size: {list(x.shape)} and {list(y.shape)}")
    error = _weighted(((x - y) ** 2).mean(-1), mask)
    if not math.isfinite(error):
        return 0.0
    if error <= 0.0:
        return CAP_DB
    return min(CAP_DB, 10.0 * math.log10(data_range**2 / error))


def background_psnr(frames: Clip, reference: Clip, person: Clip) -> float:
    """PSNR in dB of [T, H, W, 3] against the still picture [H, W, 3] outside the person, a mask [H, W] in 0..1."""
    return psnr(frames, reference, 1.0 - _array(person))


def ssim(a: Clip, b: Clip, data_range: float = 1.0) -> float:
    """Structural similarity (Wang et al. 2004: Gaussian window of σ 1.5, colours apart), mean over frames; 1 is equal.

    Args:
        a, b: [T, H, W, 3], at least 11 pixels a side.

    Raises:
        ValueError: the shapes differ or are too small.
    """
    x, y = _array(a), _array(b)
    if x.shape != y.shape:
        raise ValueError(f"clips differ in size: {list(x.shape)} and {list(y.shape)}")
    scores = [
        structural_similarity(
            first,
            second,
            channel_axis=-1,
            data_range=data_range,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for first, second in zip(x.reshape(-1, *x.shape[-3:]), y.reshape(-1, *y.shape[-3:]), strict=True)
    ]
    return float(np.mean(scores))


def temporal_std(frames: Clip, mask: Clip | None = None) -> float:
    """How much pixels move: standard deviation over time of [T, H, W, 3], mean over colours and the mask [H, W]."""
    return _weighted(_array(frames).std(0).mean(-1), mask)


def _array(values: Clip) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().to("cpu", torch.float64).numpy()
    array = np.asarray(values)
    if array.dtype.kind not in "fb":
        raise ValueError(f"pixels must be floats, not {array.dtype}; divide 8-bit frames by 255")
    return array.astype(np.float64)


def _weighted(values: np.ndarray, mask: Clip | None) -> float:
    if mask is None:
        return float(values.mean())
    weights = np.broadcast_to(_array(mask), values.shape)
    total = float(weights.sum())
    if total <= 0.0 or float(weights.min()) < 0.0:
        raise ValueError(
            f"a mask needs weights of 0 or more and some above, but it spans {weights.min()}..{weights.max()}"
        )
    return float((values * weights).sum() / total)
