"""Scenes whose people cover a fair part of the frame."""

from __future__ import annotations

import torch
from torch import Tensor

from .render import render, seconds
from .scenes import PEOPLE, Dice, Scenes, join, sample

COVERED = (0.1, 0.4)  # part of the frame that the people of a scene cover, all together


def coverage(scenes: Scenes, frames: int, size: int = 16) -> Tensor:
    """Part of the frame [B] that people cover, mean of three moments of a clip."""
    times = seconds(frames)[[0, frames // 2, frames - 1]]
    still = torch.zeros(len(scenes), PEOPLE, 3)
    return render(scenes, still, still, size, times).people.sum(1).mean((1, 2, 3))


def draw(dice: Dice, batch: int, frames: int) -> Scenes:
    """``batch`` scenes, drawn until the people cover what ``COVERED`` says in a clip of ``frames``."""
    kept: list[Scenes] = []
    missing = batch
    while missing > 0:
        found = sample(dice, 2 * missing + 4)
        covered = coverage(found, frames)
        good = ((covered > COVERED[0]) & (covered < COVERED[1])).nonzero()[:, 0][:missing]
        kept.append(found[good])
        missing -= len(good)
    return join(kept)
