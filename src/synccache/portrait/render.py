"""Rendered talking portraits: endless training clips for the built-in audio-driven portrait model.

    identity = sample_identity(rng)
    motion = sample_motion(rng, opening, width)     # opening and width come from speech
    frames = render(identity, motion)               # uint8 [T, 128, 128, 3]
    photo = reference(identity, rng)                # uint8 [128, 128, 3], what animates
    areas = regions(identity, motion)               # {'mouth', 'person'}: float32 [128, 128]

A face is drawn once in *head space* (canonical framing, fractions of the frame, u to the right, v down) as layers:
background, hair behind the head, body, head. For every frame the layers are moved by small fields (roll and shift,
parallax from yaw and pitch, the falling jaw), mouth and eyes are painted in the moved coordinates, and all is
composed, graded and vignetted.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from . import render_live
from .motion import Motion, sample_motion, still
from .render_face import Face
from .render_layers import Identity, Layers, layers_of, sample_identity
from .render_measure import measure_opening
from .render_pose import COARSE, DENSITY, MARGIN, apply, box_of, frame_grid, similarity, turn
from .scenery import Array, f32, ramp

__all__ = [
    "Identity",
    "Motion",
    "measure_opening",
    "reference",
    "regions",
    "render",
    "sample_identity",
    "sample_motion",
]

INVERSE = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


def _paste(frames: Array, patch: tuple[slice, slice], linear: Array, alpha: Array) -> None:
    area = frames[:, patch[0], patch[1]].astype(np.float32)
    paint = np.sqrt(np.clip(linear, 0, 1)) * np.float32(255)
    area += (paint - area) * alpha[..., None]
    frames[:, patch[0], patch[1]] = np.clip(area + 0.5, 0, 255).astype(np.uint8)


def _cover(frame: Array, layer: Array) -> Array:
    keep = cv2.cvtColor(cv2.bitwise_not(cv2.extractChannel(layer, 3)), cv2.COLOR_GRAY2RGB)
    return cv2.add(cv2.multiply(frame, keep, scale=1 / 255), cv2.cvtColor(layer, cv2.COLOR_RGBA2RGB))


def render(identity: Identity, motion: Motion, size: int = 128) -> Array:
    """Render a clip.

    Args:
        identity: from `sample_identity`.
        motion: T frames, from `sample_motion`.
        size: side of the frames in pixels.

    Returns:
        uint8 [T, size, size, 3], RGB.
    """
    face, layers, pixel = identity.face, layers_of(identity, size), 1 / (size * identity.scale)
    poses = similarity(identity, motion)
    straight = apply(poses, *frame_grid(size), split=False)
    turned, head, back = _bends(face, motion, poses)
    trunk = similarity(identity, motion, 0.35)
    density = DENSITY * size
    to_texels = f32([MARGIN * density - 0.5, MARGIN * density - 0.5])
    frames = np.empty((len(motion), size, size, 3), np.uint8)
    full = (size, size)
    for t in range(len(motion)):
        if t == 0 or motion.drift[t] != motion.drift[t - 1]:
            scene = _lit(layers, motion.drift[t])
        frame = scene
        if identity.hair.style != "bald":
            frame = _cover(frame, _sample(layers.hair, straight, back, t))
        matrix = trunk[t].copy()
        matrix[:, 2] = (matrix[:, 2] + matrix[:, :2].sum(1) * 0.5 / size) * density + to_texels
        matrix[:, :2] *= DENSITY
        frame = _cover(frame, cv2.warpAffine(layers.body, matrix, full, flags=INVERSE, borderMode=cv2.BORDER_REPLICATE))
        frames[t] = _cover(frame, _sample(layers.head, straight, head, t))
    moving = np.stack([cv2.resize(bend, full) for bend in turned])
    moving += straight
    patch = box_of(identity, motion, (face.mouth_u, face.mouth_v + 0.026), (face.mouth_w * 1.25, 0.098), size)
    u, v = np.ascontiguousarray(np.moveaxis(moving[:, patch[0], patch[1]], -1, 0))
    _paste(frames, patch, *render_live.mouth(face, motion, u, v, pixel))
    for side in (-1, 1):
        patch = box_of(identity, motion, (0.5 + side * face.eye_du, face.eye_v), (face.eye_w * 1.35, 0.045), size)
        u, v = np.ascontiguousarray(np.moveaxis(moving[:, patch[0], patch[1]], -1, 0))
        _paste(frames, patch, *render_live.eye(face, motion, u, v, side, pixel))
    return _develop(identity, layers, frames)


def _bends(face: Face, motion: Motion, poses: Array) -> tuple[Array, Array, Array]:
    """Smooth movement beyond the similarity `poses`, on a coarse grid [T, COARSE, COARSE, 2] in head space.

    Of the turning head, of the turning head with its jaw, and of the hair behind it.
    """
    u0, v0 = apply(poses, *frame_grid(COARSE))
    u, v = turn(face, motion, u0, v0)
    turned = np.stack([u - u0, v - v0], -1)
    head_u, head_v = render_live.jaw(face, motion, u, v)
    sway = motion.sway[:, None, None] * (0.05 * ramp(v, 0.35, 1.1)) * ramp(np.abs(u - 0.5), 0.1, 0.3)
    back = turned.copy()
    back[..., 0] += 0.06 * motion.yaw[:, None, None] - 0.35 * sway
    return turned, np.stack([head_u - u0, head_v - v0], -1), back


def _sample(layer: Array, straight: Array, bend: Array, t: int) -> Array:
    """A head-space layer seen in frame t: the similarity `straight` plus a coarse field `bend`, both in head space."""
    size = straight.shape[2]
    where = straight[t] + cv2.resize(bend[t], (size, size))
    k = np.float32(len(layer) / (1 + 2 * MARGIN))
    where = where * k + (np.float32(MARGIN) * k - np.float32(0.5))
    return cv2.remap(layer, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]


def _lit(layers: Layers, drift: float) -> Array:
    size = len(layers.backdrop)
    shift = f32([[1, 0, (0.5 + 0.25 * float(np.clip(drift, -1.9, 1.9))) * size], [0, 1, 0]])
    light = cv2.warpAffine(layers.light, shift, (size, size), flags=INVERSE)
    return cv2.multiply(layers.backdrop, cv2.merge([light] * 3), dtype=cv2.CV_8U)


def _develop(identity: Identity, layers: Layers, frames: Array) -> Array:
    """The camera: blur, vignette, tone curve."""
    size = frames.shape[1]
    sigma = identity.softness * size / 128
    for t, frame in enumerate(frames):
        if sigma > 0.3:
            frame = cv2.GaussianBlur(frame, (0, 0), sigma)
        if identity.vignette:
            frame = cv2.multiply(frame, layers.vignette, scale=1 / 255)
        frames[t] = cv2.LUT(frame, identity.grade)
    return frames


def reference(identity: Identity, rng: np.random.Generator, size: int = 128) -> Array:
    """The photo to animate: neutral pose but for a hair's breadth, mouth at rest, eyes open. uint8 [size, size, 3]."""
    spread = {"yaw": 0.03, "pitch": 0.02, "roll": 0.008}
    pose = {name: rng.normal(0, s, 1).astype(np.float32) for name, s in spread.items()}
    gaze = rng.normal(0, 0.08, (1, 2)).astype(np.float32)
    shift = rng.normal(0, 0.004, (1, 2)).astype(np.float32)
    return render(identity, replace(still(), gaze=gaze, shift=shift, **pose), size)[0]


def regions(identity: Identity, motion: Motion, size: int = 128) -> dict[str, Array]:
    """Where things happen in a clip.

    Returns:
        'mouth': float32 [size, size] in 0..1, a box with soft edges around the mouth and the falling jaw over the
        whole motion; 'person': the same for head, hair and shoulders in any frame or in the neutral pose.
        Background = 1 - person.
    """
    face, layers = identity.face, layers_of(identity, size)
    rows, columns = box_of(identity, motion, (face.mouth_u, face.mouth_v + 0.030), (face.mouth_w * 1.3, 0.085), size)
    mouth: Array = np.zeros((size, size), np.float32)
    mouth[rows, columns] = 1
    mouth = cv2.GaussianBlur(mouth, (0, 0), 0.014 * size)
    person: Array = np.zeros((size, size), np.float32)
    chosen = np.unique(np.linspace(0, len(motion) - 1, min(len(motion), 6)).astype(int))
    at_rest = still()
    fields = Motion.__dataclass_fields__
    some = Motion(*(np.concatenate([getattr(motion, name)[chosen], getattr(at_rest, name)]) for name in fields))
    poses, trunk = similarity(identity, some), similarity(identity, some, 0.35)
    _, head, back = _bends(face, some, poses)
    straight, upright = (apply(matrix, *frame_grid(size), split=False) for matrix in (poses, trunk))
    for t in range(len(some)):
        for layer, base, bend in (
            (layers.head, straight, head),
            (layers.hair, straight, back),
            (layers.body, upright, 0 * head),
        ):
            opaque = _sample(cv2.extractChannel(layer, 3), base, bend, t)
            np.maximum(person, opaque / np.float32(255), out=person)
    width = 2 * round(0.016 * size) + 1
    person = cv2.dilate(person, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
    return {"mouth": mouth, "person": np.clip(cv2.GaussianBlur(person, (0, 0), 0.008 * size), 0, 1)}
