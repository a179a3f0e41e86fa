"""How well the portrait model talks: held-out people, held-out speech, a real photo, and the controls beside them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from ..defaults import GUIDANCE_SCALE
from ..masks.person import person_mask
from ..metrics.fidelity import background_psnr, temporal_std
from ..metrics.sync import audio_envelope, pearson, speaking_range, sync
from .data import HELD_OUT, sample_clip, to_pixels
from .framing import mouth_region
from .hearing import FRAME, features
from .pipeline import PortraitPipeline
from .render import measure_opening
from .speech import Utterances

MARGIN = 0.08  # of the picture, around a photo's person mask: hair beyond it, and the way that a head moves


@dataclass(frozen=True)
class Talk:
    """Generated frames uint8 [T, H, W, 3] and the opening measured in them, [T]."""

    frames: np.ndarray
    opening: np.ndarray


def evaluate(
    pipe: PortraitPipeline,
    *,
    clips: int = 16,
    steps: int = 40,
    guidance_scale: float = GUIDANCE_SCALE,
    photo: tuple[np.ndarray, np.ndarray] | None = None,
    on_clip: Callable[[int, int], None] | None = None,
) -> dict:
    """Measure the model on ``clips`` held-out people, each speaking for two clips (the second continues the first).

    Args:
        pipe: the model.
        clips: held-out people.
        steps, guidance_scale: as in ``PortraitPipeline``.
        photo: (uint8 [H, W, 3] in canonical framing, float32 [samples] at 16 kHz): a real portrait and real speech.
        on_clip: called with (people done, people).

    Returns:
        A dictionary for JSON: correlations of the mouth opening measured in generated frames with the true opening,
        the same for the true frames (``truth``) and for the controls, ``background_psnr_db``, ``silence``, ``photo``,
        and one row a person.
    """
    length = pipe.transformer.config.frames
    speech = Utterances("test", silent=0.0)
    rows: list[dict] = []
    measured, true = [], []
    for index in range(clips):
        rng = np.random.default_rng((HELD_OUT, index))
        clip = sample_clip(rng, speech, 2 * length, size=pipe.transformer.config.image_size)
        talk = _talk(pipe, clip.portrait, clip.features, clip.mouth, steps, guidance_scale, index)
        still = np.repeat(clip.portrait[None], 2 * length, axis=0)
        on_truth = measure_opening(clip.frames, clip.mouth, clip.portrait)
        found = sync(talk.opening, clip.opening)
        row = {
            "person": index,
            "correlation": found["correlation"],
            "lag": found["best_lag"],
            "truth": pearson(on_truth, clip.opening),
            "still_picture": pearson(measure_opening(still, clip.mouth, clip.portrait), clip.opening),
            "background_psnr_db": background_psnr(_unit(talk.frames), _unit(clip.portrait), clip.person),
            "truth_background_psnr_db": background_psnr(_unit(clip.frames), _unit(clip.portrait), clip.person),
        }
        if index % 4 == 0:
            silence = features(np.zeros(2 * length * FRAME, np.float32), 2 * length)
            quiet = _talk(pipe, clip.portrait, silence, clip.mouth, steps, guidance_scale, index)
            row["silent_opening"] = float(np.mean(quiet.opening))
            row["silent_opening_highest"] = float(quiet.opening.max())
        rows.append(row)
        measured.append(talk.opening)
        true.append(clip.opening)
        if on_clip:
            on_clip(index + 1, clips)
    spoken = np.concatenate(measured)
    loudest = float(np.quantile(spoken, 0.99))
    quiet_rows = [row for row in rows if "silent_opening" in row]
    others = [pearson(measured[i], true[(i + 1) % clips]) for i in range(clips)] if clips > 1 else [math.nan]
    lags = [row["lag"] for row in rows]
    report = {
        "clips": clips,
        "steps": steps,
        "guidance_scale": guidance_scale,
        "correlation": _mean(rows, "correlation"),
        "truth": _mean(rows, "truth"),
        "ratio_to_truth": _mean(rows, "correlation") / _mean(rows, "truth"),
        "median_lag_frames": float(np.median(lags)),
        "controls": {"another_persons_speech": float(np.mean(others)), "still_picture": _mean(rows, "still_picture")},
        "speaking_range": speaking_range(spoken),
        "background_psnr_db": _mean(rows, "background_psnr_db"),
        "truth_background_psnr_db": _mean(rows, "truth_background_psnr_db"),
        "silence": {
            "mean_part_of_speaking_maximum": _mean(quiet_rows, "silent_opening") / max(loudest, 1e-9),
            "highest_part_of_speaking_maximum": max(r["silent_opening_highest"] for r in quiet_rows)
            / max(loudest, 1e-9),
        },
        "photo": None if photo is None else _photo(pipe, *photo, steps, guidance_scale),
        "rows": rows,
    }
    return report


def _photo(pipe: PortraitPipeline, image: np.ndarray, audio: np.ndarray, steps: int, guidance_scale: float) -> dict:
    frames = pipe(image, audio, steps=steps, guidance_scale=guidance_scale)
    mouth = mouth_region(image.shape[0])
    opening = measure_opening(_bytes(frames), mouth, image)
    envelope = audio_envelope(audio, len(frames))
    person = person_mask(image)
    mouth_std, background_std = temporal_std(frames, mouth), temporal_std(frames, _background(person))
    beside_std = temporal_std(frames, 1 - person)
    return {
        "envelope": sync(opening, envelope),
        "mouth_temporal_std": mouth_std,
        "background_temporal_std": background_std,
        "background_to_mouth": background_std / max(mouth_std, 1e-9),
        "beside_person_to_mouth": beside_std / max(mouth_std, 1e-9),
    }


def _background(person: np.ndarray) -> np.ndarray:
    """Where a person can't be, [H, W]: at least ``MARGIN`` of the picture away from their mask.

    The mask comes from a face box and cuts off wide hair, and heads move.
    """
    width = 2 * round(MARGIN * person.shape[0]) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    return 1 - cv2.dilate((person > 0.02).astype(np.float32), disc)


def _talk(
    pipe: PortraitPipeline,
    portrait: np.ndarray,
    heard: torch.Tensor,
    mouth: np.ndarray,
    steps: int,
    guidance_scale: float,
    seed: int,
) -> Talk:
    length = pipe.transformer.config.frames
    reference, motion, parts = to_pixels(portrait)[None], None, []
    for clip, window in enumerate(heard.split(length)):
        video = pipe.denoise(
            reference, window[None], motion, steps=steps, guidance_scale=guidance_scale, seeds=[seed * 1009 + clip]
        )
        parts.append(video)
        motion = pipe.last_frames(video)
    frames = _bytes(((torch.cat(parts, 2)[0] + 1) / 2).permute(1, 2, 3, 0).numpy())
    return Talk(frames, measure_opening(frames, mouth, portrait))


def _mean(rows: list[dict], key: str) -> float:
    return float(np.mean([row[key] for row in rows]))


def _unit(frames: np.ndarray) -> np.ndarray:
    return frames.astype(np.float32) / 255


def _bytes(frames: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(frames, 0, 1) * 255).astype(np.uint8)
