"""What lies behind a rendered person, and the brushes and textures that all of the renderer paints with."""

from __future__ import annotations

import cv2
import numpy as np

Array = np.ndarray


def f32(values) -> Array:
    """Numbers as a float32 array."""
    return np.asarray(values, np.float32)


def ramp(x: Array, low: float, high: float) -> Array:
    """Smooth step of x from 0 at `low` to 1 at `high`."""
    t = np.clip((x - low) * np.float32(1 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)


def plateau(x: Array, width) -> Array:
    """Bell of x with a flat top: exp(-(x / width)^4)."""
    t = x / width
    t = t * t
    return np.exp(-t * t)


def bump(x: Array, y: Array, cx: float, cy: float, rx: float, ry: float) -> Array:
    """Gaussian bump of radii (rx, ry) around (cx, cy); cheap where x is a row and y a column."""
    a, b = (x - cx) * np.float32(1 / rx), (y - cy) * np.float32(1 / ry)
    return np.exp(-a * a) * np.exp(-b * b)


def extent(u: Array, v: Array) -> tuple[int, int]:
    """Shape of the grid that a row u and a column v span."""
    return v.shape[0], u.shape[1]


def over(canvas: Array, colour, alpha: Array) -> None:
    """Paint a colour ([3] or [3, H, W]) on the canvas [3, H, W] in place with opacity alpha [H, W]."""
    for plane, paint in zip(canvas, np.asarray(colour, np.float32), strict=True):
        plane += (paint - plane) * alpha


def fade(canvas: Array, alpha: Array, tint=(1, 1, 1)) -> None:
    """Darken the canvas [3, H, W] in place by alpha [H, W], more in the channels where tint is higher."""
    for plane, t in zip(canvas, tint, strict=True):
        plane *= 1 - (alpha if t == 1 else alpha * np.float32(t))


def filled(colour: Array, shape: tuple[int, int]) -> Array:
    """A canvas [3, H, W] of one colour."""
    canvas = np.empty((3, *shape), np.float32)
    canvas[:] = colour[:, None, None]
    return canvas


def clouds(rng: np.random.Generator, shape: tuple[int, int], coarsest: int = 3, octaves: int = 5, slope=0.55) -> Array:
    """1/f noise [H, W], mean about 0 and standard deviation about 1."""
    grid = rng.standard_normal((coarsest, coarsest), np.float32)
    weight, norm = 1.0, 1.0
    for _ in range(octaves - 1):
        cells = 2 * len(grid)
        if cells > max(shape):
            break
        weight *= slope
        norm += weight**2
        grid = cv2.resize(grid, (cells, cells), interpolation=cv2.INTER_CUBIC)
        grid += np.float32(weight) * rng.standard_normal((cells, cells), np.float32)
    return cv2.resize(grid * np.float32(1.3 / norm**0.5), shape[::-1], interpolation=cv2.INTER_CUBIC)


def colour(rng: np.random.Generator, saturation: float = 0.5, low: float = 0.1, high: float = 0.9) -> Array:
    """A random colour [3], 0..1, in the photographic range."""
    hue, value, s = rng.uniform(0, 180), rng.uniform(low, high), saturation * rng.beta(1.2, 1.5)
    pixel = np.uint8([[[hue, 255 * s, 255 * value]]])
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32) / 255


def background(rng: np.random.Generator, size: int) -> Array:
    """A photographic-looking background [3, size, size], float32 0..1."""
    picture = np.empty((3, size, size), np.float32)
    ys, xs = (a.astype(np.float32) / size for a in np.ogrid[0:size, 0:size])
    kind = rng.choice(["studio", "clouds", "bokeh", "shapes", "shelf", "stripes", "foliage", "wall"],
                      p=[0.24, 0.14, 0.1, 0.16, 0.1, 0.1, 0.08, 0.08])  # fmt: skip
    vivid = 0.7 * rng.random() ** 2
    first, second = colour(rng, vivid), colour(rng, vivid)
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    slope = np.clip(0.5 + (xs - 0.5) * cos + (ys - 0.5) * sin, 0, 1)
    if kind == "studio":
        second = np.clip(first * rng.uniform(0.55, 1.25) + rng.normal(0, 0.03, 3), 0, 1).astype(np.float32)
    picture[:] = first[:, None, None] + (second - first)[:, None, None] * slope
    blur = rng.uniform(0.004, 0.03)
    if kind in ("studio", "clouds", "wall"):
        strength = {"studio": 0.04, "clouds": 0.16, "wall": 0.06}[str(kind)] * rng.uniform(0.5, 1.5)
        picture *= 1 + strength * clouds(rng, (size, size), int(rng.integers(2, 5)))
        if kind == "wall":
            for _ in range(rng.integers(1, 4)):
                _rectangle(rng, picture, colour(rng, 0.3), outlined=rng.random() < 0.5)
            blur *= 0.6
        if rng.random() < 0.3:  # half of it another surface: a flag, a curtain, a door
            edge = ramp(xs + 0.1 * rng.normal() * ys, (e := rng.uniform(0, 1)), e + 0.02)
            over(picture, colour(rng, 0.8), edge if rng.random() < 0.5 else 1 - edge)
    elif kind == "bokeh":
        picture *= 0.5
        for _ in range(rng.integers(8, 30)):
            spot = np.zeros((size, size), np.float32)
            centre = tuple(int(c) for c in rng.uniform(0, size, 2))
            cv2.circle(spot, centre, int(size * rng.uniform(0.02, 0.11)), 1.0, -1, cv2.LINE_AA)
            over(picture, colour(rng, 0.7, 0.5, 1.0), spot * rng.uniform(0.15, 0.7))
        blur = rng.uniform(0.006, 0.015)
    elif kind == "shapes":
        for _ in range(rng.integers(3, 14)):
            _rectangle(rng, picture, colour(rng, 0.15 + vivid))
        picture *= 1 + 0.06 * clouds(rng, (size, size))
        blur = rng.uniform(0.008, 0.05)
    elif kind == "shelf":
        _shelf(rng, picture)
        blur = rng.uniform(0.004, 0.014)
    elif kind == "stripes":
        wave = 0.02 * clouds(rng, (size, size), 2, 2)
        across = xs * cos + ys * sin + wave
        band = ramp(np.sin(across * rng.uniform(10, 60)), -0.25, 0.25)
        over(picture, colour(rng, 0.8), band)
        picture *= 1 + 6 * wave
    else:
        noise = clouds(rng, (size, size), int(rng.integers(5, 14)), 4, 0.8)
        leaf = f32([0.25, 0.4, 0.15]) * rng.uniform(0.7, 1.4, 3).astype(np.float32)
        picture[:] = np.clip(leaf[:, None, None] * (0.8 + 0.45 * noise), 0, 1)
        over(picture, colour(rng, 0.3, 0.6, 1.0), ramp(noise, 1.0, 1.6) * 0.7)
    sigma = max(0.3, blur * size)
    if sigma > 2.5:  # wide blurs on a quarter of the pixels
        for plane in picture:
            small = cv2.resize(plane, (size // 2, size // 2), interpolation=cv2.INTER_AREA)
            small = cv2.GaussianBlur(small, (0, 0), sigma / 2)
            plane[:] = cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)
    else:
        for plane in picture:
            plane[:] = cv2.GaussianBlur(plane, (0, 0), sigma)
    picture += rng.standard_normal((size, size), np.float32) * np.float32(rng.uniform(0.0, 0.012))
    return np.clip(picture, 0, 1)


def _rectangle(rng: np.random.Generator, picture: Array, paint: Array, outlined: bool = False) -> None:
    size = picture.shape[1]
    x, y = rng.uniform(-0.2, 1.0, 2) * size
    w, h = rng.uniform(0.08, 0.6, 2) * size
    corners = cv2.boxPoints(((x + w / 2, y + h / 2), (w, h), float(rng.normal(0, 6)))).astype(np.int32)
    for plane, shade in zip(picture, paint.tolist(), strict=True):
        cv2.fillPoly(plane, [corners], shade)
        if outlined:
            cv2.polylines(plane, [corners], True, shade * 0.5, max(1, size // 60))


def _shelf(rng: np.random.Generator, picture: Array) -> None:
    size = picture.shape[1]
    picture[:] = colour(rng, 0.5, 0.1, 0.4)[:, None, None]
    y = -rng.uniform(0, 0.2)
    while y < 1:
        height, x = rng.uniform(0.16, 0.32), 0.0
        while x < 1:
            w, tall = rng.uniform(0.02, 0.06), height * rng.uniform(0.65, 0.95)
            rows = slice(max(0, int((y + height - tall) * size)), max(0, int((y + height) * size)))
            picture[:, rows, int(x * size) : int((x + w) * size) - 1] = colour(rng, 0.5, 0.1, 0.75)[:, None, None]
            x += w
        y += height + 0.025


def moving_light(rng: np.random.Generator, size: int) -> Array:
    """What drifts over the background [size, 2 * size], a factor around 1: a light patch, leaf shadow or stripe."""
    field = clouds(rng, (size, 2 * size), 3, 2)
    strength = rng.uniform(0.08, 0.3) * rng.choice([-1, 1])
    return 1 + np.float32(strength) * ramp(field, 0.4, 1.4)
