"""What moves in a rendered face: mouth and eyes, painted anew in every frame in the head's own coordinates."""

from __future__ import annotations

import numpy as np

from .motion import Motion
from .render_face import Face
from .scenery import Array, f32, plateau, ramp

JAW = 0.72  # part of the aperture by which the lower lip falls; the upper lip rises by the rest


def aperture(face: Face, motion: Motion) -> Array:
    """Height of the open mouth [T], in fractions of the frame."""
    return face.teeth + motion.opening * face.aperture * (1 - 0.12 * motion.width)


def jaw(face: Face, motion: Motion, u: Array, v: Array) -> tuple[Array, Array]:
    """Where the skin at (u, v) [T, h, w] was when the face was at rest.

    The jaw takes chin and lower cheeks down with it; cheeks stretch, the upper lip rises a little.
    """
    drop = (JAW * motion.opening * face.aperture)[:, None, None].astype(np.float32)
    wide = motion.width[:, None, None].astype(np.float32)
    x = u - np.float32(face.mouth_u)
    below = ramp(v, face.mouth_v - 0.035, face.chin + 0.01)
    near = plateau(x, face.cheek * 1.05)
    cheeks = np.exp(-((x / np.float32(0.17)) ** 2) - ((v - np.float32(face.mouth_v)) / np.float32(0.09)) ** 2)
    v0 = v - drop * below * near * np.float32(0.72)
    v0 += np.float32(0.10) * drop * cheeks
    u0 = u + x * (np.float32(0.9) * drop * below - np.float32(0.10) * wide * cheeks)
    return u0, v0


def mouth(face: Face, motion: Motion, u: Array, v: Array, pixel: float) -> tuple[Array, Array]:
    """Lips, teeth, tongue.

    Args:
        face: the shape.
        motion: T frames.
        u, v: [T, h, w] head-space coordinates around the mouth.
        pixel: size of a pixel, for soft edges.

    Returns:
        linear colour [T, h, w, 3] and opacity [T, h, w].
    """
    f = face

    def column(a) -> Array:
        return np.asarray(a, np.float32)[:, None, None]

    gap, wide = column(aperture(f, motion)), column(motion.width)
    opening = column(motion.opening)
    half = f.mouth_w * (1 + 0.17 * wide - 0.05 * opening)
    lift = f.smile * (1 - 0.35 * opening) + 0.004 * wide
    x = (u - f.mouth_u) / half
    x2 = x * x
    inside = np.sqrt(np.clip(1 - x2, 0, 1))
    arch = np.clip(1 - x2, 0, 1)
    middle = f.mouth_v - lift * (x2 - 0.35)
    root = inside * np.sqrt(inside)
    shape = inside * (0.75 + 0.25 * arch)
    y = v - middle
    top_in = -(1 - JAW) * gap * shape
    bottom_in = JAW * gap * shape
    full = 1 - 0.22 * wide  # pursed lips are fuller
    bow = 1 - 0.22 * np.exp(-((x / 0.13) ** 2)) - 0.12 * x2
    thin = 1 - 0.15 * opening
    top_out = top_in - f.lip_top * full * thin * bow * root
    bottom_out = bottom_in + f.lip_bottom * full * thin * root
    soft = pixel * 0.75
    bite = 0.0025  # the line between closed lips
    within = ramp(1.02 - np.abs(x), 0, 0.06)
    lips = ramp(y - top_out, -soft, soft) * ramp(bottom_out - y, -soft, soft) * within
    hole = ramp(y - top_in + bite * 0.5, -soft, soft) * ramp(bottom_in + bite * 0.5 - y, -soft, soft) * within
    # lips: the upper one turned from the light, the lower one catching it
    upper = ramp(-y - (1 - JAW) * 0, 0, 0.006) * (y < (top_in + bottom_in) / 2)
    low = np.clip((y - bottom_in) / (f.lip_bottom * full), 0, 1)
    high = np.clip((top_in - y) / (f.lip_top * full), 0, 1)
    side = 1 + 0.45 * f.light[0] * x
    level = 0.92 - f.ambient * 0.1
    light = np.where(upper > 0.5, 0.62 + 0.28 * high, 0.78 + 0.42 * np.sin(np.pi * np.clip(low * 1.1, 0, 1)))
    light *= side * level
    gloss = (0.05 + 0.15 * f.makeup) * np.exp(-(((low - 0.42) / 0.18) ** 2) - ((x - 0.25 * f.light[0]) / 0.4) ** 2)
    gloss *= 1 - upper
    # the mouth's inside: dark, tongue below, teeth above
    depth = np.clip((y - top_in) / np.maximum(bottom_in - top_in, 1e-3), 0, 1)
    tongue = ramp(gap, 0.03, 0.07) * np.exp(-((x / 0.55) ** 2)) * ramp(depth, 0.55, 0.85)
    tall = 0.030 if f.teeth else 0.020
    edge = -0.45 * (1 - JAW) * gap * shape + tall * (1 - 0.25 * x2)
    if f.teeth:
        at_rest = (1 - JAW) * f.teeth
        edge = np.minimum(edge, f.teeth * 0.92 * shape - at_rest + 0.3 * (top_in + at_rest * shape))
    shown = ramp(edge - y, -soft, soft) * ramp(0.86 - np.abs(x), 0, 0.18)
    if not f.teeth:
        shown = shown * ramp(gap, 0.012, 0.04) * ramp(y - top_in, 0.0, 0.012)
    gaps = 1 - 0.22 * np.exp(-(((((u - f.mouth_u) / 0.0135 + 0.5) % 1 - 0.5) / 0.13) ** 2))
    white = (0.25 + 0.6 * inside) * gaps * side * level * (0.6 + 0.4 * ramp(y - top_in, 0.0, 0.008))
    line = 0.75 * np.exp(-(((y - top_in) / 0.004) ** 2)) * ramp(0.02 - gap, 0, 0.02) * np.sqrt(inside)
    alpha = np.maximum(lips * (0.86 + 0.14 * f.makeup), hole)
    corner = 0.45 * np.exp(-(((np.abs(x) - 1.0) / 0.07) ** 2) - ((y / 0.007) ** 2))
    dark = 1 - 0.55 * line * (1 - ramp(gap, 0.0, 0.01))
    crease = corner > alpha
    dark[crease] = 0
    shut, cave = (1 - hole) * dark, hole * (1 - shown) * dark
    colour = _blend(
        (shut * light, f.lips),
        (shut * gloss, (1, 1, 1)),
        (cave * (0.6 + 0.8 * depth), (0.055, 0.012, 0.012)),
        (cave * tongue, (0.26, 0.075, 0.075)),
        (hole * shown * dark * white, (0.74, 0.69, 0.60)),
        (crease, f.skin * 0.35),
    )
    return colour, np.maximum(alpha, corner)


def eye(face: Face, motion: Motion, u: Array, v: Array, side: int, pixel: float) -> tuple[Array, Array]:
    """One eye; `side` is -1 for the left of the picture, 1 for the right. As for `mouth`."""
    f = face
    t = ((u - 0.5) * side - f.eye_du) / f.eye_w  # -1 inner corner, 1 outer corner
    y = (v - f.eye_v) + f.eye_tilt * f.eye_w * t
    blink = motion.blink[:, None, None]
    arch = np.clip(1 - t * t, 0, 1)
    squint = 1 - 6 * max(f.smile, 0)
    top = -f.eye_h * squint * np.sqrt(arch) * (1 - 0.15 * t) * (1 - 1.25 * blink)
    bottom = f.eye_h * 0.72 * np.sqrt(arch) * (1 + 0.12 * t) * (1 - 0.1 * blink)
    top = np.minimum(top, bottom)
    soft = pixel * 0.7
    opened = ramp(y - top, -soft, soft) * ramp(bottom - y, -soft, soft) * ramp(1.0 - np.abs(t), 0, 0.05)
    opened = opened * ramp(bottom - top, 0.0, 0.004)
    gaze = motion.gaze[:, :, None, None]
    ix = (u - 0.5 - side * f.eye_du) - 0.017 * gaze[:, 0]
    iy = (v - f.eye_v) - 0.007 * gaze[:, 1] + 0.001
    radius = 0.025
    r = np.sqrt(ix * ix + iy * iy) * np.float32(1 / radius)
    ball = np.clip((0.80 - 0.28 * t * t) * (0.75 + 0.3 * ramp(y - top, 0.0, 0.018)), 0, 1)
    ball = ball * (0.95 + 0.25 * f.light[0] * t * side)
    rays = 0.85 + 0.25 * np.sin(np.arctan2(iy, ix) * 9) ** 2
    iris = rays * (0.55 + 0.75 * np.clip(r, 0, 1) ** 2 + 6.0 * np.maximum(iy, 0)) * ramp(1.12 - r, 0, 0.3)
    edge = float(pixel / radius)
    disc, pupil = ramp(1.0 - r, -edge * 0.5, edge * 0.6), ramp(0.42 - r, -edge * 0.5, edge * 0.5)
    spark = np.exp(-(((ix - 0.007 * np.sign(f.light[0])) ** 2 + (iy + 0.007) ** 2) * np.float32(1 / 0.0042**2)))
    lashes = (0.55 + 0.4 * f.makeup) * np.exp(-(((y - top) / 0.0045) ** 2)) * ramp(1.12 - np.abs(t), 0, 0.2)
    lower = 0.25 * np.exp(-(((y - bottom) / 0.0035) ** 2)) * ramp(1.05 - np.abs(t), 0, 0.2)
    crease = 0.28 * (1 - blink) * np.exp(-(((y - top + 0.011) / 0.0045) ** 2)) * ramp(1.1 - np.abs(t), 0, 0.3)
    line = np.maximum(np.maximum(lashes, lower), crease)
    lid = line / np.maximum(np.maximum(line, opened), 1e-4)
    shadow = (1 - 0.55 * np.exp(-np.maximum(y - top, 0) / 0.006)) * (1 - lid)
    colour = _blend(
        (shadow * (1 - disc) * ball, (0.66, 0.63, 0.61)),
        (shadow * disc * (1 - pupil) * iris, f.iris),
        (spark * (1 - lid), (0.9, 0.9, 0.9)),
        (lid, f.skin * 0.12),
    )
    return colour, np.maximum(opened, line)


def _blend(*parts) -> Array:
    """Sum of weights [T, h, w] times colours [3], as [T, h, w, 3]."""
    weights = np.stack([np.asarray(weight, np.float32) for weight, _ in parts], -1)
    return weights @ f32([colour for _, colour in parts])
