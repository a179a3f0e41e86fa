"""What each training step does: its settings, its task, the shape of its clips, its learning rate."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ..defaults import STAGE_BATCH, STAGE_TRAINING_STEPS
from .data import Shape
from .ranks import Ranks

# (share of the steps, frames, pixels, clips in a batch of 16)
SHAPES = (
    (0.66, 8, 32, 16),
    (0.08, 4, 32, 24),
    (0.06, 16, 32, 8),
    (0.08, 4, 48, 12),
    (0.06, 8, 48, 8),
    (0.04, 4, 64, 8),
    (0.02, 8, 64, 4),
)
TASK_SHARES = {"scene": 0.52, "first": 0.12, "reference": 0.12, "edit": 0.13, "continue": 0.11}

# Short clips first: scenes and faces are learnt from many of them rather than from many frames.
EARLY_SHAPES = (
    (0.62, 4, 32, 20),
    (0.28, 8, 32, 12),
    (0.02, 16, 32, 4),
    (0.04, 4, 48, 8),
    (0.02, 8, 48, 4),
    (0.02, 4, 64, 4),
)
EARLY_TASKS = {"scene": 0.66, "first": 0.09, "reference": 0.09, "edit": 0.06, "continue": 0.1}


@dataclass(frozen=True)
class TrainSettings:
    """What a training run depends on; stored in its checkpoint.

    Noise levels are ``sigmoid(N(time_mean, time_std))``, high ones above all: there it is decided what is where.
    ``batch`` scales all of ``SHAPES``; ``EARLY_SHAPES`` and ``EARLY_TASKS`` hold for the first ``early`` of the run. Of
    the steps, ``causal`` see only what came before, and in ``apart`` each pair of frames has a noise level of its own.
    The learning rate stays where it is until ``decay`` of the run is left. ``start`` is the number of the first step,
    more than 0 where the weights to start from have been trained so far.
    """

    steps: int = STAGE_TRAINING_STEPS
    seed: int = 0
    batch: int = STAGE_BATCH
    learning_rate: float = 1.5e-3
    muon_rate: float = 2e-2
    warmup: int = 200
    decay: float = 0.25
    early: float = 0.1
    start: int = 0
    mouth_weight: float = 13.0
    person_weight: float = 3.0
    ema: float = 0.998
    drop: float = 0.12
    causal: float = 0.15
    apart: float = 0.12
    time_mean: float = 0.9
    time_std: float = 1.4
    half: bool = True


def rate_scale(step: int, settings: TrainSettings) -> float:
    """Linear warm-up, constant, then linear decay to 2 %."""
    left = (settings.steps - step) / max(1.0, settings.decay * settings.steps)
    return min((step - settings.start + 1) / settings.warmup, 1.0, max(0.02, left))


def plan(step: int, settings: TrainSettings) -> tuple[str, Shape, bool, bool]:
    """Task, shape, whether attention is causal, whether noise levels differ: what ``step`` trains."""
    generator = torch.Generator().manual_seed(settings.seed * 7_919_993 + step)
    early = step < settings.early * settings.steps
    shapes, shares = (EARLY_SHAPES, EARLY_TASKS) if early else (SHAPES, TASK_SHARES)
    likely = torch.tensor([share for share, *_ in shapes])
    if step < settings.warmup:  # what costs least, until something is learnt
        likely[1:] = 0
    _, frames, size, clips = shapes[int(torch.multinomial(likely, 1, generator=generator))]
    task = list(shares)[int(torch.multinomial(torch.tensor(list(shares.values())), 1, generator=generator))]
    chance = torch.rand(2, generator=generator)
    batch = max(1, clips * settings.batch // 16)
    return task, Shape(frames, size, batch), bool(chance[0] < settings.causal), bool(chance[1] < settings.apart)


@dataclass(frozen=True)
class Planned:
    """Task, shape and number of a step's batch in one of several processes, for those who render."""

    settings: TrainSettings
    ranks: Ranks

    def __call__(self, step: int) -> tuple[str, Shape, int]:
        task, shape, *_ = plan(step, self.settings)
        own = max(1, shape.batch // self.ranks.count)
        return task, replace(shape, batch=own), step * self.ranks.count + self.ranks.number
