"""Training clips, rendered as they are needed: the same (seed, index) gives the same clip on every machine."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from .render import Identity, reference, regions, render, sample_identity, sample_motion
from .speech import FPS, Utterances

HELD_OUT = 20_000_003  # first word of the seeds of held-out people; training seeds never have it


@dataclass(frozen=True)
class Clip:
    """One rendered clip with everything that made it.

    ``frames`` [T, H, W, 3] and ``portrait`` [H, W, 3] are uint8; ``before`` [M, H, W, 3] are the frames that precede
    the clip; ``features`` [T, A, F] is the audio; ``opening`` [T] is the true mouth opening (0 to 1), ``width`` [T] its
    width (-1 to 1); ``mouth`` and ``person`` [H, W] are soft masks.
    """

    frames: np.ndarray
    before: np.ndarray
    portrait: np.ndarray
    features: Tensor
    opening: np.ndarray
    width: np.ndarray
    mouth: np.ndarray
    person: np.ndarray


def sample_clip(
    rng: np.random.Generator,
    speech: Utterances,
    frames: int = 12,
    before: int = 2,
    size: int = 128,
    identity: Identity | None = None,
) -> Clip:
    """Render one clip of ``identity`` (a new person if None) saying a random piece of ``speech``."""
    features, opening, width = speech.sample(rng, frames + before)
    identity = identity or sample_identity(rng)
    motion = sample_motion(rng, opening.numpy(), width.numpy(), fps=FPS)
    rendered = render(identity, motion, size)
    masks = regions(identity, motion, size)
    return Clip(
        frames=rendered[before:],
        before=rendered[:before],
        portrait=reference(identity, rng, size),
        features=features[before:],
        opening=opening.numpy()[before:],
        width=width.numpy()[before:],
        mouth=masks["mouth"],
        person=masks["person"],
    )


def to_pixels(image: np.ndarray) -> Tensor:
    """uint8 [..., H, W, 3] to float [..., 3, H, W] in -1 to 1."""
    return torch.from_numpy(np.ascontiguousarray(image)).movedim(-1, -3).float() / 127.5 - 1


def with_presence(features: Tensor) -> Tensor:
    """Append the "audio is given" input: [..., F] to [..., F+1]. All zeros instead means no audio."""
    return torch.cat([features, torch.ones_like(features[..., :1])], dim=-1)


class Batches(IterableDataset):
    """Endless batches of stacked clips; batch ``i`` depends on ``seed`` and ``i`` alone, so training can resume.

    Drawing a person costs more than filming them: batch ``i`` takes its people from a window of ``POOL`` that moves on
    by ``NEW`` persons a batch, so that each is filmed a few times, some batches apart.
    """

    POOL, NEW = 48, 3

    def __init__(self, seed: int, start: int, batch: int, frames: int, size: int = 128) -> None:
        self.seed, self.start, self.batch, self.frames, self.size = seed, start, batch, frames, size

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        speech = Utterances("train", variants=3, seed=self.seed)
        people: dict[int, Identity] = {}
        for index in itertools.count(self.start):
            rng = np.random.default_rng((self.seed, 1, index))
            first = self.NEW * index
            people = {k: v for k, v in people.items() if k >= first}
            clips = []
            for person in first + rng.choice(self.POOL, self.batch, replace=False):
                if person not in people:
                    people[person] = sample_identity(np.random.default_rng((self.seed, 2, person)))
                clips.append(sample_clip(rng, speech, self.frames, size=self.size, identity=people[person]))
            yield {
                "frames": torch.stack([torch.from_numpy(c.frames) for c in clips]),
                "before": torch.stack([torch.from_numpy(c.before) for c in clips]),
                "portrait": torch.stack([torch.from_numpy(c.portrait) for c in clips]),
                "features": torch.stack([c.features for c in clips]),
                "lips": torch.stack([torch.from_numpy(np.stack([c.opening, c.width], -1)) for c in clips]),
                "mouth": torch.stack([torch.from_numpy(c.mouth) for c in clips]),
                "person": torch.stack([torch.from_numpy(c.person) for c in clips]),
            }


def loader(seed: int, start: int, batch: int, frames: int, size: int = 128) -> Iterator[dict[str, Tensor]]:
    """Iterate ``Batches`` in a background process that gives way to the training itself.

    The process is spawned: one forked beside the threads of a running training can inherit a lock that nobody frees.
    """
    data = Batches(seed, start, batch, frames, size)
    workers: dict[str, Any] = {"num_workers": 1, "prefetch_factor": 8, "multiprocessing_context": "spawn"}
    return iter(DataLoader(data, batch_size=None, worker_init_fn=_give_way, **workers))


def _give_way(_: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if hasattr(os, "nice"):
        os.nice(5)
