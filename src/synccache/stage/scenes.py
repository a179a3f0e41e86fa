"""What is in a scene, as tensors over a batch of scenes, drawn at random: all that the renderer needs but the mouths.

Places are in half frame heights from the middle of the frame, x to the right, y down; times in seconds from the middle
of the clip; colours in 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from .words import CAMERAS, COLOUR_NAMES, COLOURS, PROPS, SCENES, SHAPES, WEATHERS

PEOPLE = 3  # places for talkers in a scene
STREAMS = 2  # sound tracks
WAVES = 5  # sinusoids of a texture


@dataclass(frozen=True)
class Scenes:
    """A batch of B scenes; fields of people are [B, PEOPLE, ...], from left to right, and ``count`` of them exist."""

    kind: Tensor  # [B], of SCENES
    palette: Tensor  # [B, 3, 3], three colours of the background
    waves: Tensor  # [B, WAVES, 4], the background's texture: direction x and y, phase, speed
    texture: Tensor  # [B, 4]: scale, contrast, two phases
    drift: Tensor  # [B, 2], the background's own motion a second
    camera: Tensor  # [B], of CAMERAS
    speed: Tensor  # [B, 2], of the camera: what its kind says, and sideways drift that no caption tells
    count: Tensor  # [B], 1 to PEOPLE
    colour: Tensor  # [B, P], of COLOURS, no two the same
    shape: Tensor  # [B, P], of SHAPES
    size: Tensor  # [B, P], half the width of a head
    place: Tensor  # [B, P, 2], of a head
    velocity: Tensor  # [B, P, 2], a second
    sway: Tensor  # [B, P, 4]: how far in x and y, how fast (radians a second), phase
    tilt: Tensor  # [B, P, 2]: radians, radians a second
    tint: Tensor  # [B, P, 3], added to the head's colour
    clothes: Tensor  # [B, P, 3], colour of the body
    stripes: Tensor  # [B, P, 2]: of the clothes, how many, how strong
    hat: Tensor  # [B, P], 0 none, 1 hat, 2 hair
    hat_colour: Tensor  # [B, P, 3]
    eyes: Tensor  # [B, P, 3]: how far apart, gaze in x and y
    smile: Tensor  # [B, P], 1 smiles, 0 doesn't
    speaker: Tensor  # [B, P], number of the sound track, -1 for who is silent
    order: Tensor  # [B, P], who is drawn first, second, third
    prop: Tensor  # [B], of PROPS
    prop_place: Tensor  # [B, 2]
    prop_velocity: Tensor  # [B, 2]
    prop_look: Tensor  # [B, 4]: size, colour
    weather: Tensor  # [B], of WEATHERS
    weather_look: Tensor  # [B, 4]: three phases, slant

    def __len__(self) -> int:
        return self.kind.shape[0]

    def __getitem__(self, index: Tensor | slice) -> Scenes:
        return Scenes(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def to(self, device: torch.device | str) -> Scenes:
        return Scenes(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def mouths(self, tracks: Tensor) -> Tensor:
        """What each person's mouth does [B, P, T], of what the sound tracks [B, STREAMS, T] say; 0 for the silent."""
        silent = torch.zeros_like(tracks[:, :1])
        return torch.cat([silent, tracks], dim=1).gather(
            1, (self.speaker + 1)[..., None].expand(-1, -1, tracks.shape[2])
        )


class Dice:
    """Random numbers of one generator, on the CPU."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=self.generator)

    def normal(self, std: float, *shape: int) -> Tensor:
        return std * torch.randn(shape, generator=self.generator)

    def integer(self, below: int, *shape: int) -> Tensor:
        return torch.randint(below, shape, generator=self.generator)

    def choice(self, weights: tuple[float, ...], *shape: int) -> Tensor:
        drawn = torch.multinomial(
            torch.tensor(weights), max(1, int(torch.tensor(shape).prod())), True, generator=self.generator
        )
        return drawn.reshape(shape)

    def chance(self, probability: float) -> bool:
        return float(torch.rand((), generator=self.generator)) < probability

    def permutations(self, count: int, of: int) -> Tensor:
        """[count, of], each row in an order of its own."""
        return torch.rand(count, of, generator=self.generator).argsort(1)


def sample(dice: Dice, batch: int) -> Scenes:
    """Draw ``batch`` scenes; how much of the frame the people cover is up to chance (see ``world.draw``)."""
    b, p = batch, PEOPLE
    count = 1 + dice.choice((0.45, 0.38, 0.17), b)
    number = torch.arange(p)
    middle = (count[:, None] - 1) / 2
    spread = torch.tensor([0.0, 0.95, 0.66])[count - 1][:, None]
    x = (
        (number - middle) * spread
        + dice.uniform(-0.14, 0.14, b, p)
        + (count == 1)[:, None] * dice.uniform(-0.45, 0.45, b, p)
    )
    largest = torch.tensor([0.55, 0.41, 0.31])[count - 1][:, None]
    size = largest * dice.uniform(0.6, 1.0, b, p)
    colours = torch.tensor(list(COLOURS.values()))
    colour = dice.permutations(b, len(COLOUR_NAMES))[:, :p]
    clothes = (
        colours[dice.integer(len(colours), b, p)] * dice.uniform(0.35, 0.9, b, p, 1) + dice.uniform(0, 0.2, b, p, 3)
    ).clamp(0, 1)
    angle, length = dice.uniform(0, 6.2832, b, WAVES), dice.uniform(1.5, 11.0, b, WAVES)
    waves = torch.stack(
        [length * angle.cos(), length * angle.sin(), dice.uniform(0, 6.2832, b, WAVES), dice.uniform(-2, 2, b, WAVES)],
        -1,
    )
    prop = dice.choice((0.62, 0.14, 0.14, 0.1), b)
    side = dice.integer(2, b) * 2 - 1
    return Scenes(
        kind=dice.integer(len(SCENES), b),
        palette=dice.uniform(0.12, 0.88, b, 3, 3),
        waves=waves,
        texture=torch.cat(
            [dice.uniform(0.75, 1.4, b, 1), dice.uniform(0.4, 1.0, b, 1), dice.uniform(0, 6.2832, b, 2)], 1
        ),
        drift=dice.normal(0.15, b, 2),
        camera=dice.integer(len(CAMERAS), b),
        speed=torch.stack([dice.uniform(0.35, 0.7, b), dice.normal(0.06, b)], 1),
        count=count,
        colour=colour,
        shape=dice.integer(len(SHAPES), b, p),
        size=size,
        place=torch.stack([x, dice.uniform(-0.42, 0.22, b, p)], -1),
        velocity=dice.normal(0.14, b, p, 2) * torch.tensor([1.0, 0.5]),
        sway=torch.stack(
            [
                dice.uniform(0, 0.09, b, p),
                dice.uniform(0, 0.07, b, p),
                dice.uniform(2, 7, b, p),
                dice.uniform(0, 6.2832, b, p),
            ],
            -1,
        ),
        tilt=torch.stack([dice.normal(0.12, b, p), dice.normal(0.2, b, p)], -1),
        tint=dice.uniform(-0.07, 0.07, b, p, 3),
        clothes=clothes,
        stripes=torch.stack([dice.uniform(2.0, 5.0, b, p), dice.uniform(0, 0.45, b, p)], -1),
        hat=dice.choice((0.4, 0.25, 0.35), b, p),
        hat_colour=dice.uniform(0.03, 0.75, b, p, 3),
        eyes=torch.stack(
            [dice.uniform(0.3, 0.46, b, p), dice.uniform(-0.5, 0.5, b, p), dice.uniform(-0.4, 0.4, b, p)], -1
        ),
        smile=(torch.rand(b, p, generator=dice.generator) < 0.3).float(),
        speaker=_speakers(dice, count),
        order=dice.permutations(b, p),
        prop=prop,
        prop_place=torch.stack([side * dice.uniform(-0.35, 0.75, b), dice.uniform(-0.6, 0.6, b)], 1),
        prop_velocity=torch.stack([-side * dice.uniform(0.5, 1.6, b), dice.normal(0.2, b)], 1),
        prop_look=torch.cat([dice.uniform(0.1, 0.19, b, 1), dice.uniform(0.0, 1.0, b, 3)], 1),
        weather=dice.choice((0.76, 0.12, 0.12), b),
        weather_look=torch.cat([dice.uniform(0, 6.2832, b, 3), dice.uniform(-0.3, 0.3, b, 1)], 1),
    )


def _speakers(dice: Dice, count: Tensor) -> Tensor:
    """[B, P]: one speaks in most scenes, two in many of those with several people, nobody in a few."""
    b = len(count)
    among = torch.arange(PEOPLE)[None] < count[:, None]
    rank = torch.where(among, torch.rand(b, PEOPLE, generator=dice.generator), 2.0).argsort(1).argsort(1)
    chance = torch.rand(b, generator=dice.generator)
    speaking = torch.where(chance < 0.06, 0, torch.where((chance > 0.6) & (count > 1), 2, 1))
    return torch.where(among & (rank < speaking[:, None]), rank, -1)


def with_person(scenes: Scenes, person: Tensor, **changes: Tensor) -> Scenes:
    """The same scenes, with ``changes`` ([B] each) in the people numbered ``person`` [B]."""
    rows = torch.arange(len(scenes))
    new = {name: getattr(scenes, name).clone() for name in changes}
    for name, value in changes.items():
        new[name][rows, person] = value
    return replace(scenes, **new)  # type: ignore[arg-type]


def join(parts: list[Scenes]) -> Scenes:
    """One batch of several."""
    return Scenes(**{name: torch.cat([getattr(p, name) for p in parts]) for name in Scenes.__dataclass_fields__})


assert PROPS[0] == WEATHERS[0] == ""
