"""The clips that a benchmark runs on: people and speech that training never saw, the same on every machine."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from ..masks.person import person_mask
from ..portrait.data import HELD_OUT, Clip, sample_clip
from ..portrait.hearing import FRAME, features
from ..portrait.speech import Utterances

BENCH = 1  # second word of the seeds; portrait-eval's people have none


@dataclass(frozen=True)
class HeldOut:
    """A held-out clip; ``mask`` float32 [H, W] is what a user would have, found in the portrait (None: no face)."""

    index: int
    clip: Clip
    mask: np.ndarray | None


def held_out(count: int, frames: int, size: int, first: int = 0) -> list[HeldOut]:
    """``count`` clips from the one numbered ``first``, ``frames`` long, ``size`` pixels wide."""
    speech = Utterances("test", silent=0.0)
    return [_one(index, speech, frames, size) for index in range(first, first + count)]


def _one(index: int, speech: Utterances, frames: int, size: int) -> HeldOut:
    clip = sample_clip(np.random.default_rng((HELD_OUT, BENCH, index)), speech, frames, size=size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a face that isn't found means uniform probing, here as for a user
        mask = person_mask(clip.portrait)
    return HeldOut(index, clip, None if float(np.ptp(mask)) == 0 else mask)


def silence(frames: int):
    """Features [frames, 5, 64] of a silent recording."""
    return features(np.zeros(frames * FRAME, np.float32), frames)
