"""Where a moving head is: similarities between frame and head space, and the slide of what stands out."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .motion import Motion
from .render_face import Face
from .scenery import Array, f32

MARGIN = 0.16  # head space is drawn this far beyond the frame, so that moved layers have no edges
COARSE = 32  # side of the grids on which smooth movement is computed
DENSITY = 1.6  # texels a pixel


@lru_cache(maxsize=4)
def head_grid(size: int) -> tuple[Array, Array]:
    n = round((1 + 2 * MARGIN) * DENSITY * size)
    axis = ((np.arange(n, dtype=np.float32) + 0.5) / n * (1 + 2 * MARGIN) - MARGIN).astype(np.float32)
    return axis[None], axis[:, None]


@lru_cache(maxsize=8)
def frame_grid(size: int) -> tuple[Array, Array]:
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    return axis[None], axis[:, None]


def similarity(identity, motion: Motion, share: float = 1.0) -> Array:
    """Frame to head space, [T, 2, 3]; `share` of the head's own roll and shift."""
    angle = -(identity.roll + share * motion.roll)
    scale = 1 / identity.scale
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    centre = f32([0.5, 0.62])
    to = centre + identity.shift + share * motion.shift
    matrix = np.empty((len(motion), 2, 3), np.float32)
    matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 1, 0], matrix[:, 1, 1] = cos, -sin, sin, cos
    matrix[:, :, 2] = centre - np.einsum("tij,tj->ti", matrix[:, :, :2], to)
    return matrix


def apply(matrix: Array, x: Array, y: Array, split: bool = True) -> Array:
    m = matrix[:, :, :, None, None]
    out = np.empty((len(matrix), y.shape[0], x.shape[1], 2), np.float32)
    out[..., 0] = m[:, 0, 0] * x + (m[:, 0, 1] * y + m[:, 0, 2])
    out[..., 1] = m[:, 1, 0] * x + (m[:, 1, 1] * y + m[:, 1, 2])
    return np.moveaxis(out, -1, 0) if split else out


def turn(face: Face, motion: Motion, u: Array, v: Array) -> tuple[Array, Array]:
    """Undo yaw and pitch: what stands out towards the camera slides over what lies behind."""
    yaw, pitch = motion.yaw[:, None, None], motion.pitch[:, None, None]
    for_nose = f32([0.5, face.nose_v])
    for _ in range(2):
        x, y = (u - for_nose[0] - 0.16 * yaw), (v - 0.52 - 0.16 * pitch)
        depth = 0.17 * np.exp(-((x / 0.23) ** 2) - (y / 0.30) ** 2)
        depth += 0.045 * np.exp(-((x / 0.035) ** 2) - ((v - for_nose[1] - 0.2 * pitch) / 0.05) ** 2)
    return u - yaw * (depth + 0.02), v - pitch * (depth + 0.02)


def box_of(identity, motion: Motion, centre: tuple[float, float], half: tuple[float, float], size: int):
    """Slices of the frame that hold a head-space box in every frame."""
    matrix = similarity(identity, motion)
    corners = f32([[centre[0] + a * half[0], centre[1] + b * half[1]] for a in (-1, 1) for b in (-1, 1)])
    turned = corners[None] + 0.2 * np.stack([motion.yaw, motion.pitch], 1)[:, None]
    inverse = np.linalg.inv(matrix[:, :, :2])
    points = np.einsum("tij,tkj->tki", inverse, turned - matrix[:, None, :, 2]) * size
    low = np.clip(np.floor(points.min((0, 1))), 0, size - 2).astype(int)
    high = np.clip(np.ceil(points.max((0, 1))), low + 2, size).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])
