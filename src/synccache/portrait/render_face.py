"""The face of a rendered portrait: its random shape, its relief and its shaded skin."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .scenery import Array, bump, clouds, extent, f32, fade, filled, over, plateau, ramp

# Skin from dark to fair, sRGB 0..1.
TONES = f32([
    [0.27, 0.17, 0.13], [0.36, 0.23, 0.17], [0.47, 0.31, 0.22], [0.60, 0.41, 0.29],
    [0.73, 0.55, 0.44], [0.83, 0.66, 0.56], [0.89, 0.73, 0.64], [0.93, 0.79, 0.71],
])  # fmt: skip
# dark brown, black, blue, green, hazel; sRGB
IRISES = f32([[0.22, 0.13, 0.07], [0.12, 0.07, 0.05], [0.33, 0.45, 0.55], [0.32, 0.40, 0.25], [0.42, 0.30, 0.16]])


@dataclass(frozen=True)
class Face:
    """Shape and colours of one face; lengths in fractions of the frame, colours linear 0..1."""

    skin: Array  # [3]
    lips: Array  # [3]
    iris: Array  # [3]
    light: Array  # [3] direction to the light: right, down, to the camera
    ambient: float
    cheek: float  # half width
    middle: float  # v of the widest place
    crown: float  # v
    chin: float  # v
    jaw: float  # exponent: 2 round .. 3.5 square
    eye_v: float
    eye_du: float
    eye_w: float  # half width
    eye_h: float  # half height
    eye_tilt: float
    brow_v: float
    nose_v: float
    nose_w: float
    mouth_u: float
    mouth_v: float
    mouth_w: float  # half width
    lip_top: float
    lip_bottom: float
    smile: float  # lift of the corners
    teeth: float  # aperture of the mouth at rest, which shows teeth
    aperture: float  # what full opening adds
    age: float
    makeup: float
    beard: float
    moustache: float
    glasses: float


def sample_face(rng: np.random.Generator) -> Face:
    """Draw a face."""
    place = (len(TONES) - 1) * rng.beta(1.1, 0.85)
    low = int(min(place, len(TONES) - 2))
    tone = TONES[low] + (TONES[low + 1] - TONES[low]) * (place - low)
    tone = np.clip(tone * rng.normal(1, [0.02, 0.025, 0.035]), 0.05, 1).astype(np.float32)
    makeup = float(rng.choice([0.0, rng.uniform(0.2, 1)], p=[0.6, 0.4]))
    lips = tone * f32([0.93, 0.68, 0.68]) * (1 - makeup) + makeup * f32(
        rng.uniform([0.5, 0.12, 0.15], [0.8, 0.4, 0.45])
    )
    iris = IRISES[rng.integers(5 if place > 3.5 else 2)] * rng.normal(1, 0.12, 3)
    angle, tilt = rng.normal(0, 0.75), rng.uniform(-0.75, 0.0)
    light = f32([np.sin(angle), tilt, rng.uniform(0.6, 1.1)])
    mouth_w = rng.uniform(0.088, 0.118)
    smile = float(rng.choice([rng.normal(0.0, 0.006), rng.uniform(0.008, 0.03)], p=[0.45, 0.55]))
    grin = smile > 0.012 and rng.random() < 0.6
    male = makeup == 0 and rng.random() < 0.62
    return Face(
        skin=tone**2,
        lips=np.clip(lips, 0, 1) ** 2,
        iris=np.clip(iris, 0.02, 1).astype(np.float32) ** 2,
        light=light / np.linalg.norm(light),
        ambient=rng.uniform(0.2, 0.5),
        cheek=rng.uniform(0.215, 0.258),
        middle=rng.uniform(0.45, 0.52),
        crown=rng.uniform(0.06, 0.12),
        chin=rng.uniform(0.795, 0.84),
        jaw=rng.uniform(1.75, 2.6),
        eye_v=rng.uniform(0.408, 0.432),
        eye_du=rng.uniform(0.106, 0.128),
        eye_w=rng.uniform(0.044, 0.056),
        eye_h=rng.uniform(0.018, 0.028) * (1 - 0.1 * grin),
        eye_tilt=rng.normal(0.04, 0.06),
        brow_v=rng.uniform(0.335, 0.372),
        nose_v=rng.uniform(0.53, 0.565),
        nose_w=rng.uniform(0.042, 0.062),
        mouth_u=0.5 + rng.normal(0, 0.004),
        mouth_v=rng.uniform(0.642, 0.672),
        mouth_w=mouth_w * (1.1 if grin else 1.0),
        lip_top=rng.uniform(0.012, 0.024) * (0.75 if grin else 1.0),
        lip_bottom=rng.uniform(0.018, 0.034) * (0.85 if grin else 1.0),
        smile=smile,
        teeth=rng.uniform(0.016, 0.034) if grin else 0.0,
        aperture=rng.uniform(0.075, 0.115),
        age=rng.beta(1.2, 2.2),
        makeup=makeup,
        beard=rng.uniform(0.15, 1) if male and rng.random() < 0.4 else 0.0,
        moustache=rng.uniform(0.3, 1) if male and rng.random() < 0.35 else 0.0,
        glasses=rng.uniform(0.4, 1) if rng.random() < 0.15 else 0.0,
    )


def outline(face: Face, u: Array, v: Array) -> Array:
    """How far out a point lies: 0 in the middle of the face, 1 on its outline; u and v broadcast."""
    x = np.abs(u - 0.5) / np.float32(face.cheek)
    below = v > face.middle
    y = np.where(below, (v - face.middle) / (face.chin - face.middle), (face.middle - v) / (face.middle - face.crown))
    power = np.where(below, face.jaw, 2.1).astype(np.float32)
    # x^2.2 + y^p = 1, made radial enough by the square root
    return np.sqrt(np.power(x, 2.1) + np.power(y, power))


def relief(face: Face, u: Array, v: Array, far: Array) -> Array:
    """Height of the face towards the camera [N, N], in fractions of the frame."""
    x, f = u - 0.5, face
    side = np.abs(x)
    z = np.float32(0.21) * np.sqrt(np.clip(1 - far * far, 0.015, 1))
    z += 0.010 * bump(side, v, 0.1, f.brow_v + 0.012, 0.075, 0.022)  # brow ridge
    z -= 0.022 * bump(side, v, f.eye_du, f.eye_v, 0.06, 0.032)  # eye sockets
    z -= 0.012 * bump(side, v, 0.045, f.eye_v + 0.005, 0.03, 0.04)
    z += 0.011 * bump(side, v, f.eye_du, f.eye_v + 0.002, 0.038, 0.02)  # eyeballs
    z -= 0.003 * (0.4 + f.age) * bump(side, v, f.eye_du - 0.01, f.eye_v + 0.048, 0.045, 0.012)  # under the eyes
    z += 0.013 * bump(side, v, 0.13, f.nose_v - 0.015 - f.smile, 0.06, 0.05)  # cheekbones
    along = np.clip((v - f.brow_v) / (f.nose_v - f.brow_v), 0, 1)
    bridge = np.exp(-((x / (0.024 + 0.013 * along)) ** 2))
    z += (
        (0.008 + 0.026 * along)
        * ramp(v, f.brow_v - 0.03, f.eye_v + 0.02)
        * ramp(f.nose_v + 0.022 - v, 0, 0.03)
        * bridge
    )
    z += 0.021 * bump(x, v, 0, f.nose_v - 0.004, 0.028, 0.026)  # tip
    z += 0.014 * bump(side, v, f.nose_w * 0.72, f.nose_v + 0.008, 0.019, 0.018)  # wings
    fold = side - (f.nose_w + 0.012 + 0.75 * (v - f.nose_v) * (f.mouth_w / 0.1))
    crease = np.exp(-((fold / 0.012) ** 2)) * ramp(v, f.nose_v, f.nose_v + 0.03) * ramp(f.mouth_v + 0.035 - v, 0, 0.05)
    z -= (0.003 + 0.006 * f.age + 0.16 * max(f.smile, 0)) * crease
    z -= 0.004 * bump(x, v, 0, (f.nose_v + f.mouth_v) / 2 + 0.012, 0.010, 0.025)  # philtrum
    z += 0.014 * bump(x, v, 0, f.mouth_v + 0.005, 0.09, 0.045)  # muzzle
    z -= 0.010 * bump(x, v, 0, f.mouth_v + f.lip_bottom + 0.022, 0.05, 0.013)  # under the lower lip
    z += 0.016 * bump(x, v, 0, f.chin - 0.045, 0.05, 0.035)  # chin
    return z


def shading(face: Face, z: Array, step: float) -> tuple[Array, Array]:
    """Light on a relief z [N, N] sampled every `step`: diffuse light by channel [3, N, N] and gloss [N, N]."""
    zx = cv2.Sobel(z, cv2.CV_32F, 1, 0, ksize=3, scale=1 / (8 * step))
    zy = cv2.Sobel(z, cv2.CV_32F, 0, 1, ksize=3, scale=1 / (8 * step))
    nz = 1 / np.sqrt(1 + zx * zx + zy * zy)
    lx, ly, lz = face.light
    facing = (lz - lx * zx - ly * zy) * nz
    # Light that enters skin comes out redder and further round: each channel wraps differently.
    wrapped = [np.clip((facing + w) / (1 + w), 0, None) for w in f32([0.30, 0.22, 0.19])]
    sky = face.ambient * (0.8 - 0.3 * zy * nz)
    diffuse = np.stack([sky * t + (1.12 - face.ambient) * w for t, w in zip((1, 1.02, 1.05), wrapped, strict=True)])
    halfway = f32([lx, ly, lz + 1]) / np.sqrt(lx**2 + ly**2 + (lz + 1) ** 2)
    gloss = np.clip((halfway[2] - halfway[0] * zx - halfway[1] * zy) * nz, 0, 1)
    gloss = np.clip((gloss - 0.86) * np.float32(1 / 0.14), 0, 1)
    gloss = gloss * gloss * gloss
    return diffuse, gloss


def skin(face: Face, rng: np.random.Generator, u: Array, v: Array, hair: Array):
    """Paint face and ears.

    Args:
        face: the shape.
        rng: source of texture.
        u, v: row [1, N] and column [N, 1] of head-space coordinates.
        hair: [3] linear colour of brows and beard.

    Returns:
        linear colour [3, N, N], opacity [N, N], outline distance [N, N].
    """
    f, x = face, u - 0.5
    side, step = np.abs(x), float(u[0, 1] - u[0, 0])
    far = outline(f, u, v)
    z = relief(f, u, v, far)
    mottle = clouds(rng, extent(u, v), 10, 5, 0.8)
    z += 0.0005 * (0.3 + f.age) * mottle
    paint = filled(f.skin, extent(u, v))
    flush = 0.28 * bump(side, v, 0.13, f.nose_v - 0.01, 0.07, 0.05) + 0.22 * bump(x, v, 0, f.nose_v, 0.045, 0.03)
    flush += 0.2 * bump(x, v, 0, f.chin - 0.04, 0.06, 0.03)
    fade(paint, flush * rng.uniform(0.2, 1.2), (0.02, 0.26, 0.24))
    fade(paint, -0.035 * mottle, (0.6, 1, 1))
    if rng.random() < 0.2:
        freckles = ramp(clouds(rng, extent(u, v), 48, 2, 0.9), 1.2, 1.9) * bump(x, v, 0, f.nose_v - 0.03, 0.17, 0.07)
        fade(paint, 0.4 * freckles, (0.6, 0.9, 1))
    sockets = bump(side, v, f.eye_du, f.eye_v - 0.012, 0.06, 0.03)
    fade(paint, (0.16 + 0.2 * f.makeup * rng.random()) * sockets, (0.8, 1, 0.95))
    bags = bump(side, v, f.eye_du - 0.008, f.eye_v + 0.035, 0.042, 0.014)
    fade(paint, 0.2 * rng.random() * bags)
    _hairs(f, rng, u, v, paint, hair, far)
    # ears, behind the face
    ear = np.sqrt(((side - f.cheek) / 0.034) ** 2 + ((v - (f.eye_v + f.nose_v) / 2 - 0.015) / 0.078) ** 2)
    ears = ramp(1 - ear, -0.04, 0.04)
    inside = ramp(far, 1 - 0.012, 1 + 0.012)
    z = np.where(far < 1.0, z, 0.10 - 0.05 * ear + 0.02 * np.cos(ear * 7))
    diffuse, gloss = shading(f, cv2.GaussianBlur(z, (0, 0), max(0.6, 0.006 / step)), step)
    fade(diffuse, 0.35 * inside)
    # dark places that light from a relief does not give: nostrils, under the nose, at the rim
    under = bump(x, v, 0, f.nose_v + 0.032, f.nose_w, 0.012)
    fade(diffuse, (0.38 + 0.25 * max(0.0, -float(f.light[1]))) * under, (0.75, 0.95, 1))
    nostril = bump(side, v, f.nose_w * 0.42, f.nose_v + 0.021, f.nose_w * 0.26, 0.0065)
    fade(diffuse, 0.7 * nostril)
    fade(diffuse, 0.25 * bump(x, v, 0, f.mouth_v + f.lip_bottom + 0.014, f.mouth_w * 0.6, 0.009))
    fade(diffuse, 0.35 * ramp(far, 0.86, 1.02), (0.8, 1, 1))
    out = paint * np.clip(diffuse, 0.02, 1.6)
    out += rng.uniform(0.01, 0.09) * gloss * ramp(1.0 - far, 0.0, 0.3)
    if f.glasses:
        _glasses(f, rng, side, v, out)
    return out, np.maximum(1 - inside, ears), far


def _hairs(f: Face, rng: np.random.Generator, u: Array, v: Array, paint: Array, hair: Array, far: Array) -> None:
    """Brows, stubble, beard and moustache, painted on the skin's own colour."""
    x = u - 0.5
    side = np.abs(x)
    fine = cv2.GaussianBlur(rng.standard_normal(extent(u, v), np.float32), (0, 0), 0.6) * 1.8
    t = (side - f.eye_du - 0.004) / 0.062  # -1 inner end .. 1 outer end
    arch, thick = rng.uniform(0.004, 0.02), rng.uniform(0.007, 0.016)
    line = f.brow_v - arch * (1 - (t - 0.25) ** 2) + 0.006 * t
    width = thick * np.clip(1.05 - 0.55 * np.clip(t, -1, 1.2), 0.2, 2) * 0.8
    brow = plateau(v - line, width) * ramp(1.12 - np.abs(t), 0, 0.25)
    over(paint, hair * 0.7, np.clip(brow * rng.uniform(0.55, 0.95) * (0.85 + 0.25 * fine), 0, 1))
    if f.beard:
        beside = ramp(side + 0.45 * (v - f.mouth_v) - 0.03, f.mouth_w * 0.75, f.mouth_w * 1.5)
        lower = beside * ramp(v, f.nose_v + 0.01, f.mouth_v)
        chin = ramp(v - f.mouth_v - f.lip_bottom - 0.012, 0, 0.03)
        cover = np.maximum(lower, chin) * ramp(far, 0.35, 0.6) * ramp(v, f.eye_v + 0.06, f.nose_v + 0.03)
        over(paint, hair * 0.8, np.clip(cover * f.beard * (0.85 + 0.22 * fine), 0, 0.96))
    if f.moustache:
        level = f.mouth_v - f.lip_top - 0.016 + (0.15 - 3 * f.smile) * np.maximum(side - 0.03, 0)
        cover = plateau(v - level, 0.019) * ramp(f.mouth_w * 1.1 - side, 0, 0.03)
        over(paint, hair * 0.8, np.clip(cover * f.moustache * (0.85 + 0.22 * fine), 0, 0.96))


def _glasses(f: Face, rng: np.random.Generator, side: Array, v: Array, out: Array) -> None:
    p = float(rng.choice([2.0, 3.0, 5.0]))
    rx, ry = rng.uniform(0.07, 0.085), rng.uniform(0.045, 0.065)
    ring = (np.abs((side - f.eye_du) / rx) ** p + np.abs((v - f.eye_v - 0.012) / ry) ** p) ** (1 / p)
    thick = rng.uniform(0.05, 0.12)
    rim = ramp(thick - np.abs(ring - 1), 0, 0.05)
    bridge = ramp(0.006 - np.abs(v - f.eye_v + 0.004 + 0.3 * side), 0, 0.004)
    bridge = bridge * ramp(f.eye_du - rx + 0.004 - side, 0, 0.004)
    arm = ramp(0.006 - np.abs(v - f.eye_v + 0.005), 0, 0.004) * ramp(side, f.eye_du + rx, f.eye_du + rx + 0.004)
    frame = np.maximum(rim, np.maximum(bridge, arm))
    over(out, (rng.uniform(0, 0.25, 3) ** 2 * rng.choice([0.2, 1, 2])).astype(np.float32), frame * f.glasses)
    glare = ramp(1 - ring, 0, 0.1) * ramp(0.012 - np.abs((side - f.eye_du) + 0.8 * (v - f.eye_v) - 0.03), 0, 0.01)
    over(out, f32([0.8, 0.85, 0.9]), 0.25 * glare * rng.random())
