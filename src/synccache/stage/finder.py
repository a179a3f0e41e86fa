"""Sees what is in a clip: people, mouths, colours, the kind of scene, the camera. Trained on rendered clips.

By it generated clips are judged, and a person mask is made of them. It is a small convolutional network, a few minutes'
training on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import InputError
from .data import Speech, tracks_of
from .render import Film, render
from .scenes import Dice, Scenes
from .words import CAMERAS, COLOUR_NAMES, SCENES
from .world import draw

WEIGHTS = "finder.safetensors"
SIZES = ((8, 32), (4, 48), (8, 32), (4, 64))  # frames and pixels that it learns from in turn


@dataclass(frozen=True)
class Seen:
    """What is in clips.

    Attributes:
        person, mouth: [B, T, H, W], 0 to 1: people, and the surroundings of mouths.
        colour: [B, 1 + colours, T, H, W] logits of nobody, and of whose pixel it is by the colour of the head.
        opening: [B, T, H, W], 0 to 1: how far the mouth here is open; means something where ``mouth`` is high.
        scene, camera: [B, kinds] logits of ``SCENES`` and ``CAMERAS``.
    """

    person: Tensor
    mouth: Tensor
    colour: Tensor
    opening: Tensor
    scene: Tensor
    camera: Tensor


class Finder(nn.Module):
    """Args of ``forward``: clips [B, 3, T, H, W], -1 to 1; sides are multiples of 4. Returns ``Seen``."""

    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Conv2d(3, 24, 3, padding=1)
        self.middle = nn.Conv2d(24, 48, 3, 2, 1)
        self.far = nn.Conv2d(48, 64, 3, 2, 1)
        self.wide = nn.Conv2d(64, 64, 3, padding=2, dilation=2)
        self.back_middle = nn.Conv2d(64 + 48, 48, 3, padding=1)
        self.back = nn.Conv2d(48 + 24, 32, 3, padding=1)
        self.pixels = nn.Conv2d(32, 3 + 1 + len(COLOUR_NAMES), 1)
        self.kind = nn.Linear(64, len(SCENES))
        self.motion = nn.Sequential(
            nn.Conv2d(2 * 24, 48, 5, 2, 2), nn.GELU(), nn.Conv2d(48, 48, 3, 2, 1), nn.GELU(), nn.AdaptiveAvgPool2d(4)
        )
        self.way = nn.Linear(48 * 16, len(CAMERAS))

    def forward(self, clips: Tensor) -> Seen:
        batch, _, length = clips.shape[:3]
        near = F.gelu(self.near(clips.transpose(1, 2).flatten(0, 1)))
        half = F.gelu(self.middle(near))
        quarter = F.gelu(self.far(half))
        quarter = quarter + F.gelu(self.wide(quarter))
        x = F.gelu(self.back_middle(torch.cat([F.interpolate(quarter, scale_factor=2), half], 1)))
        x = F.gelu(self.back(torch.cat([F.interpolate(x, scale_factor=2), near], 1)))
        pixels = self.pixels(x).unflatten(0, (batch, length)).transpose(1, 2)
        ends = near.unflatten(0, (batch, length))[:, [length // 4, length - 1 - length // 4]].flatten(1, 2)
        return Seen(
            person=pixels[:, 0].sigmoid(),
            mouth=pixels[:, 1].sigmoid(),
            opening=pixels[:, 2].sigmoid(),
            colour=pixels[:, 3:],
            scene=self.kind(quarter.mean((2, 3)).unflatten(0, (batch, length)).mean(1)),
            camera=self.way(self.motion(ends).flatten(1)),
        )

    @classmethod
    def packaged(cls) -> Finder:
        """The shipped one.

        Raises:
            InputError: the package has no weights of it.
        """
        with as_file(files("synccache.stage") / "assets" / WEIGHTS) as path:
            return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> Finder:
        """Read what ``save`` wrote.

        Raises:
            InputError: there is no such file, or it is of something else.
        """
        if not path.is_file():
            raise InputError(f"No finder at {path}. Train one with stage-eval --train-finder.")
        finder = cls()
        try:
            finder.load_state_dict({k: v.float() for k, v in load_file(path).items()})
        except Exception as error:
            raise InputError(f"{path} is a damaged finder ({str(error).splitlines()[0]}). Train it anew.") from None
        return finder.eval()

    def save(self, path: Path) -> None:
        """Write the weights as fp16 safetensors."""
        save_file({k: v.half().contiguous() for k, v in self.state_dict().items()}, path)


def truth_of(scenes: Scenes, film: Film, opening: Tensor) -> Seen:
    """What a perfect finder would see; ``opening`` [B, PEOPLE, T] of the mouths. Colours and kinds are one-hot."""
    person = film.people.sum(1).clamp(0, 1)
    mouth = film.mouths.sum(1).clamp(0, 1)
    weight = film.mouths / film.mouths.sum(1, keepdim=True).clamp_min(1e-3)
    shares = torch.zeros(len(scenes), 1 + len(COLOUR_NAMES), *person.shape[1:])
    index = (1 + scenes.colour)[..., None, None, None].expand_as(film.people)
    shares.scatter_add_(1, index, film.people)
    shares[:, 0] = 1 - person
    return Seen(
        person, mouth, shares, (weight * opening[..., None, None]).sum(1),
        F.one_hot(scenes.kind, len(SCENES)).float(), F.one_hot(scenes.camera, len(CAMERAS)).float(),
    )  # fmt: skip


def loss_of(seen: Seen, true: Seen) -> Tensor:
    """How far ``seen`` is off the truth, one number."""
    opening = ((seen.opening - true.opening).square() * true.mouth).sum() / true.mouth.sum().clamp_min(1)
    return (
        F.binary_cross_entropy(seen.person, true.person)
        + F.binary_cross_entropy(seen.mouth, true.mouth)
        + F.cross_entropy(seen.colour, true.colour)
        + 5 * opening
        + 0.3 * F.cross_entropy(seen.scene, true.scene)
        + 0.3 * F.cross_entropy(seen.camera, true.camera)
    )


def train_finder(
    speech: Speech,
    steps: int = 1500,
    batch: int = 16,
    seed: int = 1,
    on_step: Callable[[int, float], None] | None = None,
) -> Finder:
    """Train one on rendered scenes, some of them worn as generated clips are: blurred and noisy."""
    torch.manual_seed(seed)
    finder = Finder()
    optimizer = torch.optim.AdamW(finder.parameters(), lr=3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        frames, size = SIZES[step % len(SIZES)]
        dice = Dice(torch.Generator().manual_seed(seed * 1_000_003 + step))
        scenes = draw(dice, batch, frames)
        _, opening, width = tracks_of(speech, (seed, step), batch, frames)
        mouths = scenes.mouths(opening)
        film = render(scenes, mouths, scenes.mouths(width), size)
        clips = film.frames + dice.uniform(0, 0.15, batch, 1, 1, 1, 1) * dice.normal(1.0, *film.frames.shape)
        if dice.chance(0.4):
            clips = F.avg_pool3d(clips, (1, 3, 3), 1, (0, 1, 1))
        loss = loss_of(finder(clips), truth_of(scenes, film, mouths))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if on_step:
            on_step(step, float(loss.detach()))
    return finder.eval()
