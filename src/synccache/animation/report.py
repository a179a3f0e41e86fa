"""The report of an animation: what was done, how fast it was, and how close it came.

Keys: ``baseline`` and what needs it are null where nothing was compared.

- ``baseline``, ``accelerated``: ``seconds`` of wall-clock; ``computed_steps`` of all clips; ``sync``, see ``sync_of``;
  ``cached_bytes_peak``, the most bytes held in anchors.
- ``speedup``: seconds uncached / seconds accelerated. ``step_reduction``: steps asked for / steps computed.
- ``psnr_db``, ``psnr_person_db``: against uncached, over the frame and over the person (100 where equal); ``ssim``.
- ``trace``: one row a call of the transformer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..metrics.fidelity import psnr, ssim
from ..metrics.sync import audio_envelope, pearson, sync
from ..portrait.hearing import FPS, mouth_track
from ..portrait.render_measure import measure_opening
from .request import Request
from .scene import Scene
from .take import Take

CHUNK = 48  # frames judged at a time, so that ten minutes fit into memory


def report_of(
    request: Request, scene: Scene, model: str, clips: int, baseline: Take | None, take: Take
) -> dict[str, Any]:
    """The report as plain, finite values."""
    pairs = None if baseline is None else (baseline.frames, take.frames)
    return finite(
        {
            "model": model,
            "method": take.method,
            "settings": {"guidance_scale": request.guidance_scale, **plain(take.settings)},
            "steps": request.steps,
            "seed": request.seed,
            "frames": len(take.frames),
            "fps": FPS,
            "width": request.size,
            "height": request.size,
            "baseline": None if baseline is None else _numbers(scene, baseline),
            "accelerated": {**_numbers(scene, take), "cached_bytes_peak": take.trace.bytes_peak},
            "speedup": None if baseline is None else baseline.seconds / take.seconds,
            "step_reduction": request.steps * clips / take.computed if take.computed else None,
            "psnr_db": pairs and _psnr(*pairs, None),
            "ssim": pairs and _mean_over(ssim, *pairs),
            "psnr_person_db": pairs and (None if scene.person is None else _psnr(*pairs, scene.person)),
            "trace": take.trace.to_json(),
        }
    )


def _numbers(scene: Scene, take: Take) -> dict[str, Any]:
    return {"seconds": take.seconds, "computed_steps": take.computed, "sync": sync_of(scene, take.frames)}


def sync_of(scene: Scene, frames: np.ndarray) -> dict[str, float | int] | None:
    """How well the mouth in frames [T, s, s, 3] follows the speech; None where no mouth is known.

    Returns:
        ``correlation`` of the measured opening with the one that belongs to the sound (``mouth_track``) at lag 0;
        ``best_lag`` in frames, positive where the mouth is late, and ``best_correlation`` there;
        ``envelope_correlation`` with the sound's loudness, at lag 0.
    """
    opening = opening_of(scene, frames)
    if opening is None:
        return None
    envelope = audio_envelope(scene.speech, len(frames))
    return {**sync(opening, truth_of(scene, len(frames))), "envelope_correlation": pearson(opening, envelope)}


def opening_of(scene: Scene, frames: np.ndarray) -> np.ndarray | None:
    """Measured opening of the mouth, [T]."""
    if scene.mouth is None:
        return None
    return measure_opening(as_bytes(frames), scene.mouth, scene.portrait)


def truth_of(scene: Scene, frames: int) -> np.ndarray:
    """Opening of the mouth that belongs to the speech, [T] in 0..1."""
    return mouth_track(scene.speech, frames)[0].numpy()


def as_bytes(frames: np.ndarray) -> np.ndarray:
    """float [T, H, W, 3] in 0..1 as uint8."""
    return np.rint(np.clip(frames, 0, 1) * 255).astype(np.uint8)


def _psnr(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None) -> float:
    error = _mean_over(lambda x, y: 10 ** (-psnr(x, y, mask) / 10), a, b)
    return -10 * math.log10(error)


def _mean_over(judge: Callable[[Any, Any], float], a: np.ndarray, b: np.ndarray) -> float:
    parts = [(judge(x, y), len(x)) for x, y in zip(_chunks(a), _chunks(b), strict=True)]
    return sum(value * count for value, count in parts) / sum(count for _, count in parts)


def _chunks(frames: np.ndarray) -> Iterator[np.ndarray]:
    return (frames[i : i + CHUNK] for i in range(0, len(frames), CHUNK))


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON knows them."""
    return {k: _plain(v) for k, v in settings.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return value.name if isinstance(value, Path) else str(value).removeprefix("torch.")


def finite(value: Any) -> Any:
    """The value with None in place of numbers that JSON has no word for."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
