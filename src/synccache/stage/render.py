"""Scenes to clips, a batch at a time, with the truth about them: where each person and each mouth is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..portrait.hearing import FPS
from .backgrounds import background, column, soft
from .scenes import PEOPLE, Scenes
from .talkers import talker

FOLLOWS = 0.4  # part of the camera's way that the people seem to move; it follows them for the rest


@dataclass(frozen=True)
class Film:
    """Rendered clips and their truth.

    Attributes:
        frames: [B, 3, T, H, W], -1 to 1.
        people: [B, P, T, H, W], 0 to 1: where each person is to be seen.
        mouths: [B, P, T, H, W], 0 to 1: the surroundings of each mouth, as far as they are to be seen.
    """

    frames: Tensor
    people: Tensor
    mouths: Tensor


def seconds(frames: int, device: torch.device | str = "cpu") -> Tensor:
    """Times [T] of a clip's frames, 0 in its middle."""
    return (torch.arange(frames, device=device) - (frames - 1) / 2) / FPS


def camera(scenes: Scenes, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where the camera looks, x and y, and the width of what it sees, [B, T, 1, 1] each."""
    kind, speed, drift = (column(v) for v in (scenes.camera, scenes.speed[:, 0], scenes.speed[:, 1]))
    t = t[None, :, None, None]
    pan = (kind == 2).float() - (kind == 1).float()
    zoom = (kind == 4).float() - (kind == 3).float()
    shake = 0.05 * (kind == 5) * torch.sin(speed * 40 * t + drift * 50)
    return (pan * speed + drift) * t + shake, 0.7 * shake, torch.exp(0.8 * zoom * speed * t)


def render(
    scenes: Scenes, opening: Tensor, width: Tensor, size: int | tuple[int, int] = 32, times: Tensor | None = None
) -> Film:
    """Draw the scenes.

    Args:
        scenes: B of them.
        opening, width: of each person's mouth [B, P, T], 0 to 1 and -1 to 1 (see ``Scenes.mouths``).
        size: pixels of a frame, (height, width) or of a square.
        times: seconds [T]; those of a clip of T frames by default.
    """
    height, wide = (size, size) if isinstance(size, int) else size
    t = seconds(opening.shape[2], opening.device) if times is None else times
    rows = (torch.arange(height, device=t.device) * 2 + 1) / height - 1
    columns = ((torch.arange(wide, device=t.device) * 2 + 1) / wide - 1) * wide / height
    across, down, zoom = camera(scenes, t)
    x, y = (zoom * columns).expand(-1, -1, height, -1), zoom * rows[:, None].expand(-1, wide)
    pixel, seen = 2 / height, t[None, :, None, None]
    picture = background(scenes, x + across, y + down, seen, pixel)
    x, y = x + FOLLOWS * across, y + FOLLOWS * down
    people, mouths = torch.zeros(2, len(scenes), PEOPLE, *picture.shape[2:], device=t.device).unbind()
    index = torch.arange(len(scenes), device=t.device)
    for person in scenes.order.unbind(1):
        layer = talker(scenes, person, x, y, t, opening, width, pixel)
        picture = torch.lerp(picture, layer.colour, layer.alpha[:, None])
        people, mouths = people * (1 - layer.alpha[:, None]), mouths * (1 - layer.alpha[:, None])
        people[index, person], mouths[index, person] = layer.alpha, layer.mouth
    prop, colour = _prop(scenes, x, y, seen, pixel)
    picture = torch.lerp(picture, colour, prop[:, None])
    people, mouths = people * (1 - prop[:, None]), mouths * (1 - prop[:, None])
    fall = _weather(scenes, columns[None, None, None], rows[None, None, :, None], seen)
    picture = torch.lerp(picture, torch.full_like(picture, 0.92), fall[:, None])
    return Film((2 * picture - 1).clamp(-1, 1), people, mouths)


def _prop(scenes: Scenes, x: Tensor, y: Tensor, t: Tensor, pixel: float) -> tuple[Tensor, Tensor]:
    """What passes in front: where it is [B, T, H, W], and its colours [B, 3, 1, 1, 1]."""
    size = column(scenes.prop_look[:, 0])
    place = [column(scenes.prop_place[:, i]) + column(scenes.prop_velocity[:, i]) * t for i in (0, 1)]
    u, v = (x - place[0]) / size, (y - place[1]) / size
    disc = (u**2 + v**2).sqrt() - 1.3
    post = (u.abs() - 0.7).expand_as(disc)
    wing = 0.5 * torch.sin(14 * t + column(scenes.prop_place[:, 1]) * 9)
    bird = torch.minimum(
        ((u / 1.5) ** 2 + (v / 0.6) ** 2).sqrt() - 1, ((v - wing * u.abs() + 0.4).abs() - 0.3).maximum(u.abs() - 2.4)
    )
    kind = column(scenes.prop)
    shape = torch.where(kind == 1, disc, torch.where(kind == 2, post, bird))
    return soft(-shape, pixel / 0.14) * (kind > 0), scenes.prop_look[:, 1:, None, None, None]


def _weather(scenes: Scenes, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    """How much of each pixel [B, T, H, W] is rain or snow."""
    a, b, c, slant = (column(v) for v in scenes.weather_look.unbind(1))
    along = x + slant * y
    lanes = torch.sin(17 * along + a) * torch.sin(7.3 * along + b)
    rain = ((lanes - 0.3) * 3).clamp(0, 1) * (0.5 + 0.5 * torch.sin(9 * y - 26 * t + 30 * along + c)).clamp(0, 1)
    drift = x + 0.08 * torch.sin(3 * t + 4 * y + b)
    snow = torch.sin(10 * drift + a) * torch.sin(10 * y - 9 * t + 2 * torch.sin(5 * drift + b) + c)
    kind = column(scenes.weather)
    return torch.where(kind == 1, 0.75 * rain, (snow.abs() * 4 - 2.6).clamp(0, 1)) * (kind > 0)
