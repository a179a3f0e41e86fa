"""Random motion of a talking head: everything that the speech does not determine, and the mouth that it does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Motion:
    """One clip's motion; every field is a float32 array with one entry per frame.

    Angles are in radians, distances in fractions of the frame's side.
    """

    opening: Array  # [T] 0..1, mouth aperture
    width: Array  # [T] -1 pursed .. 1 spread
    blink: Array  # [T] 0 open .. 1 closed
    gaze: Array  # [T, 2] -1..1
    yaw: Array  # [T]
    pitch: Array  # [T]
    roll: Array  # [T]
    shift: Array  # [T, 2]
    sway: Array  # [T] hair against head
    drift: Array  # [T] moving light, leaf or bokeh of the background

    def __len__(self) -> int:
        return len(self.opening)


def still(frames: int = 1) -> Motion:
    """A motionless clip in the neutral pose, mouth at rest, eyes open."""
    zero = np.zeros(frames, np.float32)
    pair = np.zeros((frames, 2), np.float32)
    return Motion(zero, zero, zero, pair, zero, zero, zero, pair, zero, zero)


def wander(rng: np.random.Generator, seconds: Array, amplitude: float, slowest: float = 6.0, fastest: float = 1.2):
    """A smooth random curve [T]: four sinusoids with periods between `slowest` and `fastest` seconds."""
    periods = np.exp(rng.uniform(np.log(fastest), np.log(slowest), 4))
    weights = rng.normal(0, 1, 4) * np.sqrt(periods / slowest)
    phases = rng.uniform(0, 2 * np.pi, 4)
    curve = (weights * np.sin(2 * np.pi * seconds[:, None] / periods + phases)).sum(1)
    return (amplitude * curve).astype(np.float32)


def blinks(rng: np.random.Generator, seconds: Array) -> Array:
    """Blinks [T] as events about every two and a half seconds, each about a quarter of a second long."""
    closed = np.zeros(len(seconds))
    when = seconds[0] - rng.exponential(1.0)
    while when < seconds[-1] + 0.2:
        length = rng.uniform(0.09, 0.15)
        closed = np.maximum(closed, np.exp(-(((seconds - when) / length) ** 4)))
        when += 0.5 + rng.exponential(2.0)
    return closed.astype(np.float32)


def saccades(rng: np.random.Generator, seconds: Array) -> Array:
    """Gaze [T, 2] that rests near the camera and jumps about once a second and a half."""
    gaze = np.zeros((len(seconds), 2))
    when, target = seconds[0], rng.normal(0, 0.12, 2)
    while when < seconds[-1]:
        gaze[seconds >= when] = target
        when += 0.25 + rng.exponential(1.2)
        target = rng.normal(0, 0.3, 2) if rng.random() < 0.5 else rng.normal(0, 0.1, 2)
    return np.clip(gaze, -1, 1).astype(np.float32)


def sample_motion(rng: np.random.Generator, opening: Array, width: Array, fps: float = 12.5) -> Motion:
    """Draw the motion of one clip.

    Args:
        rng: source of all randomness.
        opening: [T] mouth aperture, 0..1, from the speech.
        width: [T] mouth width, -1..1, from the speech.
        fps: frames per second.

    Returns:
        Motion of T frames. Head pose, blinks, gaze, sway and drift are independent of the speech and start near,
        not at, the neutral pose.
    """
    opening = np.clip(np.asarray(opening, np.float32), 0, 1)
    width = np.clip(np.asarray(width, np.float32), -1, 1)
    seconds = np.arange(len(opening)) / fps
    liveliness = rng.uniform(0.5, 1.3)

    def moving(amplitude: float, start: float = 0.35) -> Array:
        curve = wander(rng, seconds, amplitude * liveliness)
        return curve - (1 - start) * curve[:1]

    shift = np.stack([moving(0.016), moving(0.010)], 1)
    drift = wander(rng, seconds, 0.35, slowest=4.0) if rng.random() < 0.3 else np.zeros(len(opening), np.float32)
    return Motion(
        opening=opening,
        width=width,
        blink=blinks(rng, seconds),
        gaze=saccades(rng, seconds),
        yaw=np.clip(moving(0.13), -0.35, 0.35),
        pitch=np.clip(moving(0.09), -0.25, 0.25),
        roll=np.clip(moving(0.035), -0.12, 0.12),
        shift=np.clip(shift, -0.06, 0.06),
        sway=wander(rng, seconds, 0.5, slowest=3.0),
        drift=drift - 0.7 * drift[:1],
    )
