"""A rendered person: what is random about them, and the still layers that every frame is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from . import render_hair
from .render_body import body
from .render_face import Face, sample_face, skin
from .render_hair import Hair, sample_hair
from .render_pose import DENSITY, frame_grid, head_grid
from .scenery import Array, background, clouds, f32, fade, moving_light, over, ramp


@dataclass(frozen=True)
class Identity:
    """One person in one picture: face, hair, clothes, background, framing and camera. Layers are drawn on first use."""

    face: Face
    hair: Hair
    seed: int  # of all textures
    scale: float  # framing, around the canonical one
    shift: Array  # [2]
    roll: float
    softness: float  # blur of the camera, pixels at 128
    grade: Array  # uint8 [1, 256, 3], tone curve by channel
    vignette: float
    _layers: dict = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Layers:
    """An identity's still pictures; premultiplied RGBA, gamma 2."""

    backdrop: Array  # uint8 [size, size, 3]
    light: Array  # float32 [size, 2 * size], what drifts over the backdrop
    hair: Array  # uint8 [N, N, 4], behind the head
    body: Array  # uint8 [N, N, 4]
    head: Array  # uint8 [N, N, 4]
    vignette: Array  # uint8 [size, size, 3]


def sample_identity(rng: np.random.Generator) -> Identity:
    """Draw a person, a place and a camera."""
    face = sample_face(rng)
    hair = sample_hair(rng, face)
    level = np.linspace(0, 1, 256)
    curve = level + rng.normal(0.12, 0.2) * level * (1 - level) * (2 * level - 1) * 2  # contrast
    curve = np.clip(curve, 0, 1) ** rng.uniform(0.8, 1.2)  # exposure
    black, white = rng.uniform(0, 0.05), rng.uniform(0.93, 1.0)
    tint = 1 + np.array([1, 0.1, -1]) * rng.normal(0, 0.025) + rng.normal(0, 0.01, 3)
    grade = np.clip((black + (white - black) * curve)[:, None] * tint, 0, 1)
    return Identity(
        face=face,
        hair=hair,
        seed=int(rng.integers(2**62)),
        scale=rng.uniform(0.9, 1.1),
        shift=rng.uniform(-0.05, 0.05, 2).astype(np.float32) * f32([0.8, 0.7]),
        roll=float(np.clip(rng.normal(0, 0.05), -0.14, 0.14)),
        softness=rng.uniform(0.2, 0.75),
        grade=(grade * 255 + 0.5).astype(np.uint8)[None],
        vignette=float(rng.choice([0.0, rng.uniform(0.05, 0.4)])),
    )


def _premultiplied(linear: Array, alpha: Array, sigma: float) -> Array:
    opaque = np.ascontiguousarray(255 * alpha, np.float32)
    planes = [cv2.convertScaleAbs(np.sqrt(np.clip(plane, 0, 1)) * opaque) for plane in linear]
    return cv2.GaussianBlur(cv2.merge([*planes, cv2.convertScaleAbs(opaque)]), (0, 0), sigma)


def layers_of(identity: Identity, size: int) -> Layers:
    if size not in identity._layers:
        identity._layers[size] = _draw(identity, size)
    return identity._layers[size]


def _draw(identity: Identity, size: int) -> Layers:
    face, hair = identity.face, identity.hair
    rng = np.random.default_rng(identity.seed)
    u, v = head_grid(size)
    backdrop = background(rng, size)
    light = moving_light(rng, size)
    torso, torso_alpha = body(rng, u, v, face.skin, face.light, face.cheek * rng.uniform(0.52, 0.66), face.chin)
    painted, alpha, far = skin(face, rng, u, v, hair.colour)
    locks = render_hair.strands(hair, face, rng, u, v)
    all_hair = render_hair.silhouette(hair, face, rng, u, v)
    fore = render_hair.front(hair, face, rng, u, v, all_hair)
    shade = cv2.GaussianBlur(fore, (0, 0), 0.012 * DENSITY * size) * 0.45  # hair shades the forehead
    fade(painted, shade * ramp(1.02 - far, 0, 0.1))
    over(painted, locks, fore)
    behind = all_hair if hair.style != "bald" else np.zeros_like(all_hair)
    grain = 1 + 0.02 * clouds(rng, alpha.shape, 100, 2, 1.0)
    sigma = 0.35 * DENSITY
    x, y = frame_grid(size)
    corner = 1 - identity.vignette * np.clip(((x - 0.5) ** 2 + (y - 0.5) ** 2) * 2 - 0.15, 0, 1)
    return Layers(
        backdrop=cv2.merge([cv2.convertScaleAbs(plane, alpha=255) for plane in backdrop]),
        light=light,
        hair=_premultiplied(locks * (1 - 0.35 * ramp(v, 0.3, 0.8)), behind, sigma),
        body=_premultiplied(torso * grain, torso_alpha, sigma),
        head=_premultiplied(painted * grain, np.maximum(alpha, fore), sigma),
        vignette=np.repeat(np.rint(corner * 255).astype(np.uint8)[..., None], 3, 2),
    )
