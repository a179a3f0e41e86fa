"""Neck, shoulders and clothes of a rendered portrait."""

from __future__ import annotations

import numpy as np

from .scenery import Array, bump, clouds, colour, extent, f32, filled, over, ramp


def body(rng: np.random.Generator, u: Array, v: Array, skin: Array, light: Array, neck: float, chin: float):
    """Neck, shoulders and clothes.

    Args:
        rng: source of all randomness.
        u, v: row [1, N] and column [N, 1] of head-space coordinates, fractions of the frame.
        skin: [3] linear colour.
        light: [3] direction to the light.
        neck: half width of the neck.
        chin: v of the chin.

    Returns:
        linear colour [3, N, N] and opacity [N, N].
    """
    x = u - 0.5
    side = np.abs(x)
    base = chin + rng.uniform(0.06, 0.1)  # where neck and shoulders meet
    out_of_neck = np.maximum(side - neck, 0)
    shoulder = base + rng.uniform(0.16, 0.42) * out_of_neck ** rng.uniform(0.9, 1.3)
    shoulder = shoulder - 0.09 * np.exp(-((out_of_neck / 0.05) ** 2)) * rng.uniform(0.3, 1.0)
    flare = neck + 0.35 * np.maximum(v - chin - 0.03, 0) ** 1.3
    on_neck = ramp(flare - side, -0.004, 0.004) * ramp(v, chin - 0.2, chin - 0.17)
    cloth = ramp(v - shoulder, -0.004, 0.004)
    across = x / np.maximum(flare, 0.05)
    shade = 0.62 + 0.3 * np.sqrt(np.clip(1 - across * across, 0, 1)) + 0.3 * light[0] * across
    shadow = bump(0 * x, np.maximum(v - chin - 0.01 + 0.35 * x * x, 0), 0, 0, 1, 0.06)
    shade *= 1 - rng.uniform(0.35, 0.6) * shadow
    out = (skin * f32([1.0, 0.95, 0.92]))[:, None, None] * np.clip(shade, 0.05, 1.3)
    folds = clouds(rng, extent(u, v), 4, 4)
    paint = _fabric(rng, u, v, folds)
    tone = 0.75 + 0.13 * folds + 0.7 * light[0] * x - 0.5 * np.maximum(v - 1.02, 0)
    tone *= 0.75 + 0.25 * ramp(v - shoulder, 0.0, 0.08)
    cloth, tone = _cut(rng, x, v, neck, base, paint, tone, cloth, on_neck)
    paint *= np.clip(tone, 0.03, 1.5)
    over(out, paint, cloth)
    return out, np.maximum(on_neck, cloth)


def _fabric(rng: np.random.Generator, u: Array, v: Array, folds: Array) -> Array:
    """Colour and pattern of the cloth, linear [3, N, N]."""
    paint = filled(colour(rng, 0.75, 0.04, 0.95) ** 2, folds.shape)
    pattern = rng.choice(["plain", "stripes", "checks", "fleck"], p=[0.6, 0.15, 0.12, 0.13])
    if pattern == "stripes":
        along = v if rng.random() < 0.5 else u
        line = np.sin((along + 0.02 * folds) * rng.uniform(60, 200))
        over(paint, colour(rng, 0.7) ** 2, ramp(line, 0.0, 0.6))
    elif pattern == "checks":
        k = rng.uniform(60, 160)
        over(paint, colour(rng, 0.7) ** 2, 0.5 * (ramp(np.sin(u * k), 0, 0.4) + ramp(np.sin(v * k), 0, 0.4)))
    elif pattern == "fleck":
        over(paint, colour(rng, 0.7) ** 2, ramp(clouds(rng, folds.shape, 24, 3, 0.9), 0.2, 0.8))
    return paint


def _cut(rng: np.random.Generator, x: Array, v: Array, neck: float, base: float, paint: Array, tone: Array,
         cloth: Array, on_neck: Array) -> tuple[Array, Array]:  # fmt: skip
    """Cut the neckline; paints shirt, tie and rings on `paint`. Returns the cloth's opacity and its tone."""
    side = np.abs(x)
    style = str(rng.choice(["crew", "vee", "shirt", "suit", "turtle", "ring"], p=[0.25, 0.15, 0.2, 0.22, 0.1, 0.08]))
    line = base + 0.02 + rng.uniform(0.0, 0.03)
    if style == "turtle":
        tone = tone * (1 - 0.25 * ramp(side, neck * 0.5, neck * 1.1) * ramp(base + 0.03 - v, 0, 0.02))
        return np.maximum(cloth, on_neck * ramp(v, base - 0.07, base - 0.06)), tone
    depth = {"crew": 0.035, "vee": 0.16, "shirt": 0.08, "suit": 0.2, "ring": 0.0}[style] * rng.uniform(0.8, 1.3)
    open_to = line + depth * np.clip(1 - (side / (neck * 1.25)) ** (2 if style == "crew" else 1), -0.5, 1)
    hole = ramp(open_to - v, -0.003, 0.003) * ramp(neck * 1.3 - side, 0, 0.01)
    if style == "suit":  # a shirt in the opening of the jacket, with or without a tie
        over(paint, colour(rng, 0.25, 0.6, 1.0) ** 2, hole)
        collar = ramp(line + 0.05 * (1 - side / neck) - v, -0.003, 0.003) * ramp(neck * 1.2 - side, 0, 0.01)
        if rng.random() < 0.65:
            tie = ramp(0.022 + 0.12 * np.maximum(v - line - 0.06, 0) - side, -0.003, 0.003)
            over(paint, colour(rng, 0.9, 0.1, 0.7) ** 2, tie * hole * (1 - collar))
        lapel = np.exp(-(((side - (neck * 1.25 - (v - line) * 0.5)) / 0.006) ** 2)) * (1 - hole)
        tone = (tone + 0.25 * hole) * (1 - 0.5 * lapel)
        hole = collar
    elif style == "shirt":
        wing = ramp(0.045 - np.abs(v - line - 0.3 * (neck - side) - 0.02), 0, 0.006) * ramp(neck * 1.5 - side, 0, 0.01)
        tone = tone * (1 + 0.15 * wing) * (1 - 0.35 * np.exp(-((x / 0.004) ** 2)) * (1 - hole))
    elif style == "ring":  # of a space suit, say
        away = np.sqrt(x * x + ((v - base - 0.1) * 1.8) ** 2)
        radius = neck + rng.uniform(0.08, 0.16)
        band = ramp(0.022 - np.abs(away - radius), 0, 0.008)
        over(paint, colour(rng, 0.4, 0.3, 0.9) ** 2, band)
        cloth = np.maximum(cloth, band)
        tone = tone * (1 - 0.75 * ramp(radius - away, 0, 0.03) * (1 - band))
        hole = ramp(line - 0.01 - v + 0.1 * side, -0.003, 0.003) * ramp(neck * 1.2 - side, 0, 0.01)
    else:
        rim = np.exp(-(((open_to - v) / 0.008) ** 2)) * ramp(neck * 1.35 - side, 0, 0.01)
        tone = tone * (1 - 0.3 * rim)
    return cloth * (1 - hole * on_neck), tone
