"""Batches to train on: the same (seed, step) gives the same batch on every machine, so that a run resumes exactly."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..portrait.hearing import FEATURES, TOKENS
from ..portrait.speech import Utterances
from .captions import captions, edits
from .render import Film, render
from .scenes import PEOPLE, STREAMS, Dice, Scenes
from .words import tokens_of
from .world import draw

TASKS = ("scene", "first", "reference", "edit", "continue")
HELD_OUT = 20_000_003  # seed of held-out scenes; training seeds stay below


@dataclass(frozen=True)
class Shape:
    """Clips of a batch: ``frames`` of ``size`` x ``size`` pixels, ``batch`` of them."""

    frames: int
    size: int
    batch: int


@dataclass(frozen=True)
class Batch:
    """Clips with everything that may be said of them; [B, ...] each.

    Attributes:
        frames: [B, 3, T, H, W], -1 to 1.
        people, mouths: [B, PEOPLE, T, H, W], as in ``render.Film``.
        words: [B, CAPTION_TOKENS], the caption's or the instruction's.
        audio: [B, STREAMS, T, TOKENS, FEATURES + 1]; the last feature is 1 where there is a sound track.
        opening: [B, PEOPLE, T], true mouth openings.
        first, reference: [B, 3, H, W] pictures; source: [B, 3, T, H, W] the clip to be edited; or None.
        kept: how many pairs of frames at the start of the clip are given clean.
    """

    frames: Tensor
    people: Tensor
    mouths: Tensor
    words: Tensor
    audio: Tensor
    opening: Tensor
    first: Tensor | None = None
    reference: Tensor | None = None
    source: Tensor | None = None
    kept: int = 0

    def to(self, device: torch.device | str) -> Batch:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in values.items()}
        return Batch(**moved)


class Speech(Protocol):
    """Where sounds come from: ``portrait.speech.Utterances``, or less in a test."""

    def sample(self, rng: np.random.Generator, frames: int) -> tuple[Tensor, Tensor, Tensor]:
        """Features [frames, TOKENS, FEATURES], opening and width [frames] of the mouth."""


class World:
    """Draws batches.

    Args:
        seed: of everything that is drawn.
        speech: None: the packaged training speech, two variants of each recording.
        device: where scenes are rendered.
    """

    def __init__(self, seed: int = 0, speech: Speech | None = None, device: torch.device | str = "cpu") -> None:
        self.seed, self.device = seed, device
        self.speech = speech or Utterances("train", variants=2, seed=seed, silent=0.04)

    def batch(self, task: str, shape: Shape, number: int) -> Batch:
        """The batch of that number, a function of it, the seed, the task and the shape."""
        dice = Dice(torch.Generator().manual_seed((self.seed * 1_000_003 + number) % (1 << 48)))
        tracks = tracks_of(self.speech, (self.seed, number), shape.batch, shape.frames)
        return make(task, draw(dice, shape.batch, shape.frames), tracks, shape.size, dice, self.device)


def tracks_of(speech: Speech, key: int | tuple[int, ...], batch: int, frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sounds [B, STREAMS, T, TOKENS, FEATURES] with opening and width [B, STREAMS, T] of the mouths to them.

    Args:
        key: seed of what is drawn.
    """
    rng = np.random.default_rng(key)
    drawn = [speech.sample(rng, frames) for _ in range(batch * STREAMS)]
    sound, opening, width = (torch.stack(part).unflatten(0, (batch, STREAMS)) for part in zip(*drawn, strict=True))
    return sound, opening, width


def make(
    task: str,
    scenes: Scenes,
    tracks: tuple[Tensor, Tensor, Tensor],
    size: int,
    dice: Dice,
    device: torch.device | str = "cpu",
    *,
    complete: bool = False,
) -> Batch:
    """Render scenes as clips of ``task`` (one of ``TASKS``) at ``size`` pixels.

    Args:
        tracks: as ``tracks_of`` gives them.
        complete: captions leave nothing out that they can say.
    """
    sound, opening, width = tracks
    source = first = reference = None
    kept = 0

    def film(what: Scenes) -> Film:
        return render(what.to(device), what.mouths(opening).to(device), what.mouths(width).to(device), size)

    if task == "edit":
        before, scenes, said = edits(scenes, dice)
        source = film(before).frames
    elif task == "reference":
        this = _speaker(scenes)
        said = captions(scenes, dice, complete=complete, this=this)
        reference = _picture(scenes, this, size, dice, device)
    else:
        said = captions(scenes, dice, complete=complete)
    shown = film(scenes)
    if task == "first":
        first = shown.frames[:, :, 0]
    if task == "continue":
        kept = 1 + int(dice.integer(max(1, opening.shape[2] // 2 - 1), 1))
    return Batch(
        shown.frames, shown.people, shown.mouths, tokens_of(said).to(device), heard(scenes, sound).to(device),
        scenes.mouths(opening).to(device), first, reference, source, kept,
    )  # fmt: skip


def heard(scenes: Scenes, sound: Tensor) -> Tensor:
    """Sounds [B, STREAMS, T, TOKENS, FEATURES] of those tracks that somebody speaks, with their presence appended."""
    used = torch.stack([(scenes.speaker == stream).any(1) for stream in range(STREAMS)], 1).float()
    present = torch.ones_like(sound[..., :1])
    return torch.cat([sound, present], -1) * used[:, :, None, None, None]


def silence(batch: int, frames: int) -> Tensor:
    """No sound track at all, [B, STREAMS, T, TOKENS, FEATURES + 1] zeros."""
    return torch.zeros(batch, STREAMS, frames, TOKENS, FEATURES + 1)


def _speaker(scenes: Scenes) -> Tensor:
    """Number [B] of who speaks first, or of the first person."""
    return (scenes.speaker == 0).float().argmax(1)


def _picture(scenes: Scenes, this: Tensor, size: int, dice: Dice, device: torch.device | str) -> Tensor:
    """Pictures [B, 3, H, W] of the people numbered ``this``: elsewhere, of another size, mouths shut."""
    rows = torch.arange(len(scenes))
    other = draw(dice, len(scenes), 1)
    looks = {}
    for name in ("colour", "shape", "tint", "clothes", "stripes", "hat", "hat_colour"):
        looks[name] = getattr(scenes, name)[rows, this][:, None].repeat_interleave(PEOPLE, 1)
    place = torch.stack(
        [dice.uniform(-0.4, 0.4, len(scenes), PEOPLE), dice.uniform(-0.4, 0.1, len(scenes), PEOPLE)], -1
    )
    nothing = torch.zeros(len(scenes), dtype=torch.int64)
    alone = replace(
        other, **looks, count=nothing + 1, prop=nothing, weather=nothing, place=place,
        size=dice.uniform(0.33, 0.55, len(scenes), PEOPLE), smile=torch.zeros_like(other.smile),
    )  # fmt: skip
    shut = torch.zeros(len(scenes), PEOPLE, 1, device=device)
    return render(alone.to(device), shut, shut, size).frames[:, :, 0]
