"""The hair of a rendered portrait: what lies behind the head and what lies on it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .render_face import Face
from .scenery import Array, clouds, extent, f32, ramp

# black, dark brown, brown, chestnut, auburn, dark blond, blond, platinum, grey, white; sRGB
COLOURS = f32([
    [0.07, 0.06, 0.06], [0.16, 0.11, 0.08], [0.28, 0.19, 0.12], [0.36, 0.22, 0.14], [0.48, 0.24, 0.12],
    [0.50, 0.39, 0.25], [0.68, 0.54, 0.34], [0.82, 0.73, 0.56], [0.50, 0.49, 0.48], [0.80, 0.79, 0.77],
])  # fmt: skip


@dataclass(frozen=True)
class Hair:
    """Style and colour of the hair; lengths in fractions of the frame."""

    style: str  # bald, cropped, short, bob, long, afro
    colour: Array  # [3] linear
    volume: float  # beyond the skull
    line: float  # v of the hair line
    fringe: float  # how far it hangs into the forehead
    part: float  # u of the parting, from the middle
    bottom: float  # v where it ends at the sides
    cover: float  # how much of the cheeks it covers
    wave: float
    sheen: float


def sample_hair(rng: np.random.Generator, face: Face) -> Hair:
    """Draw a hair style that suits the face's light, beard and make-up."""
    dark_skin = float(face.skin.mean()) < 0.16
    odds = f32([50, 25, 8, 3, 1, 1, 1, 0, 8, 3] if dark_skin else [22, 18, 14, 8, 6, 8, 8, 3, 8, 5])
    shade = COLOURS[rng.choice(len(COLOURS), p=odds / odds.sum())] * rng.normal(1, 0.06, 3)
    masculine = face.beard or face.moustache
    styles = ["bald", "cropped", "short", "bob", "long", "afro"]
    odds = f32([10, 30, 45, 3, 5, 7] if masculine else [3, 14, 30, 22, 24, 7])
    if dark_skin:
        odds = odds + f32([4, 20, 0, 0, 0, 18])
    style = str(rng.choice(styles, p=odds / odds.sum()))
    volume = {"bald": 0.0, "cropped": 0.012, "short": rng.uniform(0.03, 0.09), "bob": rng.uniform(0.04, 0.1),
              "long": rng.uniform(0.03, 0.09), "afro": rng.uniform(0.08, 0.16)}[style]  # fmt: skip
    bottom = {"bald": 0.3, "cropped": 0.42, "short": rng.uniform(0.43, 0.56), "bob": rng.uniform(0.62, 0.86),
              "long": rng.uniform(0.95, 1.3), "afro": rng.uniform(0.45, 0.62)}[style]  # fmt: skip
    return Hair(
        style=style,
        colour=np.clip(shade, 0.02, 1).astype(np.float32) ** 2,
        volume=volume,
        line=rng.uniform(0.19, 0.25) + 0.04 * (style == "afro"),
        fringe=rng.uniform(0.03, 0.12) if style in ("short", "bob", "long") and rng.random() < 0.45 else 0.0,
        part=float(rng.choice([0.0, rng.uniform(0.05, 0.14)]) * rng.choice([-1, 1])),
        bottom=bottom,
        cover=rng.uniform(0.0, 0.05) if style in ("bob", "long") else rng.uniform(-0.02, 0.015),
        wave=float(rng.choice([0.0, rng.uniform(0.2, 0.8)])) if style != "cropped" else 0.0,
        sheen=rng.uniform(0.3, 1.3),
    )


def strands(hair: Hair, face: Face, rng: np.random.Generator, u: Array, v: Array) -> Array:
    """Lit hair texture, linear colour [3, N, N]."""
    x, y = u - 0.5 - np.float32(hair.part * 0.6), v - np.float32(face.crown - hair.volume * 0.8 - rng.uniform(0.0, 0.1))
    if hair.style in ("afro", "cropped"):
        tone = 0.8 + 0.22 * clouds(rng, extent(u, v), 40 if hair.style == "afro" else 90, 3, 0.8)
        tone = tone + 0.12 * clouds(rng, extent(u, v), 6, 3)
    else:
        rough = clouds(rng, extent(u, v), 4, 3)
        radius = np.sqrt(x * x + y * y)
        angle = np.arctan2(x, y + 0.02) * 10 + rng.uniform(0.3, 1.2) * rough
        angle += hair.wave * 0.6 * np.sin(radius * 26 + 1.5 * rough)
        noise = rng.standard_normal((16, 1024), np.float32)
        fine = cv2.GaussianBlur(noise, (0, 0), 0.8) * 2.0 + cv2.GaussianBlur(noise, (0, 0), sigmaX=5, sigmaY=1.5) * 3.0
        across = (angle * 15 + 512).astype(np.float32)
        tone = cv2.remap(fine, across, radius * 16, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        tone = 0.8 + 0.2 * tone + 0.07 * rough
        arc = np.exp(-(((radius + 0.02 * rough - rng.uniform(0.12, 0.2)) / 0.06) ** 2))
        tone = tone + hair.sheen * arc * (0.2 + 0.45 * tone)
    across = (u - 0.5) / 0.33
    lit = 0.72 + 0.5 * face.light[0] * across - 0.3 * face.light[1] * np.clip(1 - (v - face.crown) / 0.35, -0.5, 1)
    lit = lit * (1 - 0.25 * np.clip(across * across - 0.3, 0, 1)) + 0.25 * face.ambient
    lit = np.clip(tone * lit, 0.04, None)
    shine = np.float32(0.035 * hair.sheen) * np.clip(lit - 0.75, 0, 1) ** 2
    return (hair.colour + np.float32(0.008))[:, None, None] * (lit * lit) + shine


def silhouette(hair: Hair, face: Face, rng: np.random.Generator, u: Array, v: Array) -> Array:
    """Opacity [N, N] of all hair, in front of and behind the head."""
    wild = 0.25 if hair.style in ("cropped", "bald") else rng.uniform(0.3, 1.0) * (0.5 if hair.style == "long" else 1)
    edge = clouds(rng, extent(u, v), 9, 4, 0.75) * np.float32(0.008 * wild)
    skew = 1 + hair.part * 0.6 * np.sign(u - 0.5)
    half = face.cheek + hair.volume * 0.9
    top, middle = face.crown - hair.volume * 0.85, face.middle - 0.04
    y = np.clip((middle - v) / (middle - top), 0, None)
    dome = np.sqrt((np.abs(u - 0.5) * skew / half) ** 2.3 + y**2.3)
    if hair.style == "afro":
        radius = (hair.bottom - top) / 2
        away = np.sqrt(((u - 0.5) / (half + 0.03)) ** 2 + ((v - top - radius) / radius) ** 2)
        return ramp((1 - away) * 0.25 + 1.6 * edge, -0.006, 0.006)
    taper = np.where(v > middle, half + (v - middle) * (0.12 if hair.style == "long" else -0.1), half)
    spread = np.where(v > middle, (taper - np.abs(u - 0.5) * skew), (1 - dome) * 0.25)
    end = hair.bottom - v + 0.5 * edge + (0.05 * np.cos((u - 0.5) * 9) if hair.style == "bob" else 0)
    soft = 0.02 if hair.style in ("short", "cropped") else 0.008
    return ramp(spread + edge, -0.005, 0.005) * ramp(end, -soft, soft)


def front(hair: Hair, face: Face, rng: np.random.Generator, u: Array, v: Array, all_hair: Array) -> Array:
    """Opacity [N, N] of the hair in front of the face: crown, fringe and side locks."""
    if hair.style == "bald":
        return np.zeros_like(all_hair)
    x = u - 0.5
    side = np.abs(x) / face.cheek
    ragged = clouds(rng, extent(u, v), 16, 3, 0.7)
    if hair.fringe:  # falls from the parting to the sides, or straight
        sweep = 0.35 * (x * np.sign(hair.part)) if hair.part else 0.0
        line = hair.line + hair.fringe + sweep - 0.05 * side**2 + 0.007 * ragged
    else:
        notch = 0.035 * np.exp(-(((x - hair.part) / 0.05) ** 2)) if hair.part else 0.0
        line = hair.line - 0.02 + 0.05 * side**2 - notch + 0.004 * ragged
    line = np.minimum(line, face.brow_v - 0.004 + 0.25 * np.maximum(side - 0.75, 0))
    inner = face.cheek * (0.985 - 0.06 * np.clip((0.42 - v) / 0.2, -0.3, 1)) - max(hair.cover, 0) * ramp(v, 0.3, 0.5)
    lock = ramp(np.abs(x) - inner + 0.003 * ragged, -0.004, 0.006) * ramp(hair.bottom - v, -0.01, 0.01)
    if hair.cover <= 0 and hair.style in ("short", "cropped"):  # sideburns end at the ear
        lock = lock * ramp(face.eye_v + 0.05 - v, -0.02, 0.02)
    soft = 0.012 if hair.style == "cropped" else 0.005
    return all_hair * np.maximum(ramp(line - v, -soft, soft), lock)
