"""One cartoon talker: head, eyes, mouth, hat, body, by soft-edged shapes in the head's own coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .scenes import Scenes
from .words import COLOURS

MOUTH_Y = 0.45  # where the mouth is, in head sizes below the middle of the head
LIPS = (0.14, 0.02, 0.05)
TONGUE = (0.8, 0.25, 0.3)


@dataclass(frozen=True)
class Layer:
    """What one talker puts over the picture: ``colour`` [B, 3, T, H, W], ``alpha`` and ``mouth`` [B, T, H, W]."""

    colour: Tensor
    alpha: Tensor
    mouth: Tensor


def positions(scenes: Scenes, t: Tensor) -> Tensor:
    """Where the heads are [B, P, T, 2] at the seconds ``t`` [T]."""
    far_x, far_y, fast, phase = scenes.sway[..., None, :].unbind(-1)
    swing = fast * t + phase
    sway = torch.stack([far_x * torch.sin(swing), far_y * torch.sin(1.3 * swing + 1)], -1)
    return scenes.place[:, :, None] + scenes.velocity[:, :, None] * t[:, None] + sway


def talker(
    scenes: Scenes, person: Tensor, x: Tensor, y: Tensor, t: Tensor, opening: Tensor, width: Tensor, pixel: float
) -> Layer:
    """Draw the people numbered ``person`` [B], one a scene.

    Args:
        x, y: coordinates [B, T, H, W] in which the people's places are meant.
        t: seconds [T].
        opening, width: of each mouth [B, P, T], 0 to 1 and -1 to 1.
        pixel: width of a pixel.
    """
    rows = torch.arange(len(scenes), device=x.device)

    def own(values: Tensor) -> Tensor:
        return values[rows, person]

    def field(values: Tensor) -> Tensor:  # [B] or [B, T] over the picture
        return values[..., None, None] if values.ndim == 2 else values[:, None, None, None]

    def paint(colour: Tensor) -> Tensor:  # [B, 3] over the picture
        return colour[:, :, None, None, None]

    size = field(own(scenes.size))
    edge = pixel / size  # width of a pixel in head sizes

    def inside(distance: Tensor) -> Tensor:  # from a distance in head sizes, below 0 inside
        return (0.5 - distance / edge).clamp(0, 1)

    where = own(positions(scenes, t))
    angle = own(scenes.tilt)[:, :1] + own(scenes.tilt)[:, 1:] * t
    sin, cos = field(angle.sin()), field(angle.cos())
    dx, dy = (x - field(where[..., 0])) / size, (y - field(where[..., 1])) / size
    u, v = cos * dx + sin * dy, cos * dy - sin * dx

    kind = field(own(scenes.shape))
    ball = (u**2 + v**2).sqrt() - 1
    box = (u**4 + v**4).sqrt().sqrt() - 0.92
    ear = torch.maximum((u.abs() - 0.62).abs() * 1.9 + (-v - 1.38) * 0.9, v + 0.5)
    cat = torch.minimum(((u / 1.04) ** 2 + (v / 0.92) ** 2).sqrt() - 1, ear * 0.55)
    head = inside(torch.where(kind == 0, ball, torch.where(kind == 1, box, cat)))
    body = inside(((dx / 1.2) ** 2 + ((dy - 2.15) / 1.35) ** 2).sqrt() - 1)

    stripe = 1 + field(own(scenes.stripes)[:, 1]) * torch.sin(field(own(scenes.stripes)[:, 0]) * 3 * dy)
    colour = paint(own(scenes.clothes)) * stripe[:, None]
    skin = torch.tensor(list(COLOURS.values()), device=x.device)[own(scenes.colour)] + own(scenes.tint)
    shade = 1 - 0.16 * (u * 0.6 + v * 0.5).clamp(-1, 1)
    colour = torch.lerp(colour, paint(skin) * shade[:, None], head[:, None])

    hat = field(own(scenes.hat))
    brim = torch.maximum(u.abs() - 1.1, (v + 0.78).abs() - 0.12)
    crown = torch.maximum(u.abs() - 0.66, (v + 1.1).abs() - 0.36)
    hair = torch.maximum(ball - 0.06, v + 0.52 + 0.1 * torch.sin(6 * u))
    over = torch.where(hat == 0, torch.ones_like(u), torch.where(hat == 1, torch.minimum(brim, crown), hair))
    over = inside(over)
    colour = torch.lerp(colour, paint(own(scenes.hat_colour)), over[:, None])

    apart, gaze_x, gaze_y = (field(v) for v in own(scenes.eyes).unbind(1))
    side = u.abs() - apart
    white = inside((side**2 + (v + 0.14) ** 2).sqrt() - 0.24)
    pupil = inside(((side - 0.12 * gaze_x * u.sign()) ** 2 + (v + 0.14 - 0.12 * gaze_y) ** 2).sqrt() - 0.12)
    colour = torch.lerp(colour, torch.ones_like(colour), white[:, None])
    colour = colour * (1 - 0.95 * pupil[:, None])

    half = 0.42 + 0.08 * field(own(width))
    tall = 0.07 + 0.33 * field(own(opening))
    bend = field(own(scenes.smile)) * 0.24 * (1 - 2 * (u / 0.5) ** 2)
    low = v - MOUTH_Y - bend
    lips = ((u / half) ** 2 + (low / tall) ** 2).sqrt() - 1
    lips = inside(lips * tall) * head
    tongue = inside(((u / (0.6 * half)) ** 2 + ((low - 0.6 * tall) / (0.55 * tall)) ** 2).sqrt() * tall - tall) * lips
    colour = torch.lerp(colour, paint(torch.tensor(LIPS, device=x.device)[None]), lips[:, None])
    colour = torch.lerp(
        colour, paint(torch.tensor(TONGUE, device=x.device)[None]), 0.6 * (tongue * field(own(opening)))[:, None]
    )

    exists = field((person < scenes.count).to(x))
    alpha = torch.maximum(torch.maximum(head, body), over) * exists
    around = inside((((u / 0.62) ** 2 + ((v - MOUTH_Y) / 0.5) ** 2).sqrt() - 1) * 0.5)
    return Layer(colour, alpha, around * head * exists)
