"""Textured, moving backgrounds of several kinds, as functions of world coordinates."""

from __future__ import annotations

import torch
from torch import Tensor

from .scenes import Scenes

# Each takes scenes, x, y, t (broadcast to [B, T, H, W]) and the width of a pixel; and gives the weights of the second
# and third colour of the palette, and a brightness that is added.
Layers = tuple[Tensor, Tensor, Tensor]


def column(values: Tensor) -> Tensor:
    """[B] to [B, 1, 1, 1]."""
    return values[:, None, None, None]


def noise(scenes: Scenes, x: Tensor, y: Tensor, t: Tensor, finer: float = 1.0) -> Tensor:
    """Sum of the scene's waves, about -1 to 1."""
    total = torch.zeros_like(x)
    for wave in scenes.waves.unbind(1):
        kx, ky, phase, speed = (column(v) for v in wave.unbind(1))
        total = total + torch.sin(finer * (kx * x + ky * y) + phase + speed * t)
    return total / scenes.waves.shape[1] ** 0.5


def soft(value: Tensor, width: float | Tensor) -> Tensor:
    """0 below 0, 1 above 0, over ``width``."""
    return (value / width + 0.5).clamp(0, 1)


def park(s: Scenes, x: Tensor, y: Tensor, t: Tensor, pixel: float) -> Layers:
    """Sky, a line of hills, grass."""
    p = column(s.texture[:, 2])
    line = 0.05 + 0.16 * torch.sin(2.3 * x + p) + 0.08 * torch.sin(5.1 * x + column(s.texture[:, 3]))
    hill, grass = soft(y - line + 0.25, pixel), soft(y - line - 0.3 + 0.1 * torch.sin(3.7 * x - p), pixel)
    return hill * (1 - grass), grass, 0.14 * noise(s, x, y, t) * (0.3 + 0.7 * hill)


def city(s: Scenes, x: Tensor, y: Tensor, t: Tensor, pixel: float) -> Layers:
    """Houses of several heights, with windows."""
    scale = 2.6 * column(s.texture[:, 0])
    cell, inside = torch.floor(x * scale), x * scale - torch.floor(x * scale)
    height = 0.2 + 0.5 * torch.sin(cell * 12.9 + column(s.texture[:, 2])).abs()
    house = soft(y + height, pixel) * soft(0.46 - (inside - 0.5).abs(), scale * pixel)
    row = y * 5 * column(s.texture[:, 0])
    lit = torch.sin(torch.floor(row) * 7.3 + cell * 5.1 + column(s.texture[:, 3])) > -0.2
    window = soft(0.3 - (row - torch.floor(row) - 0.5).abs(), 5 * pixel) * soft(
        0.2 - (inside - 0.5).abs(), scale * pixel
    )
    window = window * house * lit
    return house * (1 - window), window, 0.07 * noise(s, x, y, t)


def sea(s: Scenes, x: Tensor, y: Tensor, t: Tensor, pixel: float) -> Layers:
    """Waves that run to the shore under an even sky."""
    deep = soft(y + 0.45, pixel)
    phase = 9 * column(s.texture[:, 0]) * y - 3.5 * t + 1.3 * torch.sin(2.5 * x + column(s.texture[:, 2]) + t)
    foam = deep * (0.5 + 0.5 * torch.sin(phase)) ** 3
    return deep * (1 - foam), foam * 0.8, 0.08 * noise(s, x, y, t)


def sky(s: Scenes, x: Tensor, y: Tensor, t: Tensor, pixel: float) -> Layers:
    """Clouds."""
    cloud = soft(noise(s, 0.6 * x, 0.9 * y, t), 0.9)
    return cloud, 0.35 * soft(noise(s, 0.9 * y, x, t, 1.4), 1.2) * (1 - cloud), 0.05 * y


def floor(s: Scenes, x: Tensor, y: Tensor, t: Tensor, pixel: float) -> Layers:
    """Tiles of two colours, with joints."""
    scale = 2.2 * column(s.texture[:, 0])
    u, v = x * scale + column(s.texture[:, 2]), y * scale + column(s.texture[:, 3])
    fu, fv = u - torch.floor(u) - 0.5, v - torch.floor(v) - 0.5
    odd = (torch.floor(u) + torch.floor(v)) % 2
    joint = 1 - soft(0.44 - torch.maximum(fu.abs(), fv.abs()), scale * pixel)
    return odd * (1 - joint), joint, 0.1 * noise(s, x, y, t)


def stripes(s: Scenes, x: Tensor, y: Tensor, t: Tensor, pixel: float) -> Layers:
    """Bent bands of three colours."""
    angle = column(s.texture[:, 2])
    along = angle.cos() * x + angle.sin() * y + 0.12 * torch.sin(3 * (angle.cos() * y - angle.sin() * x) + t)
    wave = torch.sin(6.5 * column(s.texture[:, 0]) * along + column(s.texture[:, 3]))
    width = 6.5 * pixel
    return soft(wave - 0.35, width), soft(-wave - 0.35, width), 0.07 * noise(s, x, y, t)


KINDS = (park, city, sea, sky, floor, stripes)  # in the order of words.SCENES


def background(scenes: Scenes, x: Tensor, y: Tensor, t: Tensor, pixel: float) -> Tensor:
    """Colours [B, 3, T, H, W] of the backgrounds at world coordinates ``x`` and ``y`` [B, T, H, W].

    Args:
        t: seconds [1, T, 1, 1].
        pixel: width of a pixel, for soft edges.
    """
    x = x + column(scenes.drift[:, 0]) * t
    y = y + 0.3 * column(scenes.drift[:, 1]) * t
    second, third, light = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(x)
    for number, kind in enumerate(KINDS):
        index = (scenes.kind == number).nonzero()[:, 0]
        if len(index):
            layers = kind(scenes[index], x[index], y[index], t, pixel)
            second[index], third[index], light[index] = (layer.expand_as(x[index]) for layer in layers)
    weights = torch.stack([1 - second - third, second, third], 1)
    colours = torch.einsum("bkthw,bkc->bcthw", weights, scenes.palette)
    return colours + (column(scenes.texture[:, 1]) * light)[:, None]
