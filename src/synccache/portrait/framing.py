"""Finding the face in a photo and cropping it to the framing that the portrait model knows.

*Canonical framing*: a square 1.9 times as large as the detector's face box, centred a little below the box's centre.
In it the eyes lie at about 0.42 of the height, the middle of the mouth at about 0.65, the chin at about 0.81, and the
face is 0.45 to 0.5 as wide as the frame; `render` draws people in the same framing.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from ..errors import InputError

Array = np.ndarray

SIDE = 1.9  # side of the canonical crop, in face boxes
LOWER = 0.015  # how far below the box's centre the crop's centre lies, in face boxes
MOUTH = (0.5, 0.655)  # u, v of the middle of the mouth in the canonical crop
WORK = 512  # longest side of the copy on which faces are looked for
SMALLEST = 16  # pixels, face boxes below are of no use


@dataclass(frozen=True)
class Face:
    """A detected face: its square box in pixels of the image, and a score from 0 to 1."""

    left: float
    top: float
    size: float
    score: float

    @property
    def centre(self) -> tuple[float, float]:
        """x, y in pixels."""
        return self.left + self.size / 2, self.top + self.size / 2


@dataclass(frozen=True)
class Crop:
    """A canonical crop and the way back to the photo it was taken from."""

    pixels: Array  # uint8 [size, size, 3]
    left: int  # of the square in the photo, pixels; may lie outside of it
    top: int
    side: int

    def paste(self, frames: Array, image: Array) -> Array:
        """Put an animated crop back into its photo.

        Args:
            frames: uint8 [T, s, s, 3], any s.
            image: uint8 [H, W, 3], the photo.

        Returns:
            uint8 [T, H, W, 3]; the square's border fades into the photo.
        """
        height, width = image.shape[:2]
        x0, y0 = max(0, self.left), max(0, self.top)
        x1, y1 = min(width, self.left + self.side), min(height, self.top + self.side)
        inner = slice(y0 - self.top, y1 - self.top), slice(x0 - self.left, x1 - self.left)
        edge = np.minimum(np.arange(self.side) + 0.5, self.side - 0.5 - np.arange(self.side)) / (0.06 * self.side)
        edge = np.clip(edge, 0, 1).astype(np.float32)
        weight = np.minimum(edge[:, None], edge[None])[inner][..., None]
        way = cv2.INTER_AREA if self.side < frames.shape[1] else cv2.INTER_CUBIC
        out = np.repeat(image[None], len(frames), 0)
        for whole, frame in zip(out, frames, strict=True):
            part = cv2.resize(frame, (self.side, self.side), interpolation=way)[inner].astype(np.float32)
            under = whole[y0:y1, x0:x1]
            whole[y0:y1, x0:x1] = np.rint(under + (part - under) * weight).astype(np.uint8)
        return out


def detect_face(image: Array) -> Face | None:
    """The main face of a photo, the first of ``detect_faces``; None where there is none."""
    return next(iter(detect_faces(image)), None)


def detect_faces(image: Array) -> list[Face]:
    """Find the faces of a photo.

    scikit-image's LBP cascade looks at a small copy, at its mirror image and at a slightly smaller one; what only one
    of them shows is taken for a false alarm. Upright faces only, up to about 15 degrees of roll; small ones are looked
    for only where there are no larger ones.

    Args:
        image: uint8 [H, W, 3], RGB.

    Returns:
        the faces, the one that is largest and surest first.

    Raises:
        InputError: the array is not such an image.
    """
    _check(image)
    height, width = image.shape[:2]
    for longest, smallest, stride in ((WORK, 0.16, 1.0), (WORK, 0.06, 1.5), (1.5 * WORK, 0.035, 2.0)):
        scale = longest / max(height, width)
        if longest > WORK and scale >= 1:
            break
        found = _vote(_scaled(image, scale), smallest, stride)
        if found:
            faces = [Face(f.left / scale, f.top / scale, f.size / scale, f.score) for f in found]
            return [face for face in faces if face.size >= SMALLEST]
    return []


def canonical_crop(image: Array, face: Face | None, size: int = 128) -> Crop:
    """Crop a photo to the canonical framing.

    Args:
        image: uint8 [H, W, 3], RGB.
        face: from `detect_face`.
        size: side of the crop in pixels.

    Returns:
        the crop. Where the square leaves the photo, the photo is mirrored at its border.

    Raises:
        InputError: no face, or the array is not an image.
    """
    _check(image)
    if face is None:
        raise InputError(
            f"no face was found in the photo ({image.shape[1]}x{image.shape[0]} pixels): "
            "use a photo with one upright, well-lit face that looks at the camera"
        )
    x, y = face.centre
    side = max(2, round(SIDE * face.size))
    left, top = round(x - side / 2), round(y + LOWER * face.size - side / 2)
    height, width = image.shape[:2]
    out = [max(0, -top), max(0, top + side - height), max(0, -left), max(0, left + side - width)]
    inner = image[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)]
    if inner.size == 0:
        raise InputError(f"the face box ({face}) lies outside of the {width}x{height} photo: detect it on this photo")
    beyond = cv2.BORDER_REFLECT_101 if min(inner.shape[:2]) > 1 else cv2.BORDER_REPLICATE
    square = cv2.copyMakeBorder(inner, *out, beyond)
    way = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    return Crop(cv2.resize(square, (size, size), interpolation=way), left, top, side)


def mouth_region(size: int = 128) -> Array:
    """Where the mouth of a canonical crop is while it speaks: float32 [size, size] in 0..1, a box with soft edges.

    For photos, of which nothing more is known; `render.regions` knows better for rendered clips.
    """
    box = np.zeros((size, size), np.float32)
    u, v = MOUTH
    rows = slice(round((v - 0.085) * size), round((v + 0.145) * size))
    box[rows, round((u - 0.165) * size) : round((u + 0.165) * size)] = 1
    return cv2.GaussianBlur(box, (0, 0), 0.014 * size)


def _check(image: Array) -> None:
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"an image must be a uint8 array [height, width, 3] in RGB; found {found}: convert it first")
    if min(image.shape[:2]) < SMALLEST:
        found = f"{image.shape[1]}x{image.shape[0]}"
        raise InputError(f"the image is too small to hold a face: {found} pixels; use one of 64x64 or more")


def _scaled(image: Array, scale: float) -> Array:
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


@lru_cache(maxsize=1)
def _cascade():
    from skimage.data import lbp_frontal_face_cascade_filename
    from skimage.feature import Cascade

    return Cascade(lbp_frontal_face_cascade_filename())


def _boxes(picture: Array, smallest: float, stride: float) -> Array:
    """[n, 3] left, top, size."""
    short = min(picture.shape[:2])
    least = max(24, int(smallest * short))
    if short < least:
        return np.zeros((0, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = _cascade().detect_multi_scale(
            img=picture, scale_factor=1.15, step_ratio=stride, min_size=(least, least), max_size=(short, short)
        )
    return np.float64([[b["c"], b["r"], b["width"]] for b in found]).reshape(-1, 3)


def _vote(picture: Array, smallest: float, stride: float) -> list[Face]:
    """The boxes that at least two of three views agree on, the largest and surest first."""
    mirrored = _boxes(np.ascontiguousarray(picture[:, ::-1]), smallest, stride)
    mirrored[:, 0] = picture.shape[1] - mirrored[:, 0] - mirrored[:, 2]
    views = [_boxes(picture, smallest, stride), mirrored]
    if not len(views[0]) and not len(views[1]):
        return []
    views.append(_boxes(_scaled(picture, 0.88), smallest, stride) / 0.88)
    boxes = np.concatenate(views)
    agreed: list[Face] = []
    owner = np.repeat([0, 1, 2], [len(v) for v in views])
    for box in boxes:
        centre = box[:2] + box[2] / 2
        apart = np.abs(boxes[:, :2] + boxes[:, 2:] / 2 - centre).max(1)
        same = (apart < 0.3 * box[2]) & (np.abs(np.log(boxes[:, 2] / box[2])) < 0.4)
        votes = len(set(owner[same].tolist()))
        size = float(np.median(boxes[same, 2]))
        x, y = np.median(boxes[same, :2] + boxes[same, 2:] / 2, 0).tolist()
        if votes >= 2:
            agreed.append(Face(x - size / 2, y - size / 2, size, votes / 3))
    faces: list[Face] = []
    for face in sorted(agreed, key=lambda f: f.score * f.size, reverse=True):
        if all(max(abs(a - b) for a, b in zip(face.centre, f.centre, strict=True)) > f.size / 2 for f in faces):
            faces.append(face)
    return faces
