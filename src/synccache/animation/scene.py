"""What stands before the camera: the portrait in the model's framing, who is where in it, and what is said."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ..core.notices import notice
from ..errors import InputError
from ..masks.person import load_mask, person_mask
from ..media import audio
from ..media import image as pictures
from ..portrait.framing import LOWER, SIDE, Crop, Face, canonical_crop, detect_faces, mouth_region
from ..portrait.hearing import SAMPLE_RATE

SOUND_RATE = 48_000  # of the sound in the video; the model hears SAMPLE_RATE
SILENT = 1e-3  # peak (-60 dBFS) below which a recording is silent


@dataclass(frozen=True)
class Scene:
    """Everything that the model needs, and everything needed to judge what it makes.

    Attributes:
        portrait: uint8 [s, s, 3], s the model's image size.
        person: float32 [s, s] in 0..1, or None where nobody is known: probing is uniform then.
        mouth: float32 [s, s] in 0..1, where the mouth may be, or None.
        speech: float32 [samples] at 16 kHz, what the model hears.
        sound: float32 [samples] at 48 kHz, what the video says.
    """

    portrait: np.ndarray
    person: np.ndarray | None
    mouth: np.ndarray | None
    speech: np.ndarray
    sound: np.ndarray

    @property
    def seconds(self) -> float:
        return self.speech.size / SAMPLE_RATE


def prepare(image: Path, recording: Path, size: int, *, mask: Path | None = None, crop: bool = True) -> Scene:
    """Read a photo and a recording, find the face, and frame it.

    Args:
        image, recording, mask, crop: as in ``Request``.
        size: the model's image size s.

    Raises:
        InputError: a file can't be used, or there is no face and neither a mask nor ``crop=False``.
    """
    photo = pictures.load(image)
    speech = audio.load(recording, SAMPLE_RATE)
    if float(np.abs(speech).max()) < SILENT:
        notice(f"{recording} is silent: the mouth will stay shut.")
    faces = detect_faces(photo)
    face = next(iter(faces), None)
    if face is None and crop and mask is None:
        raise InputError(
            f"No face was found in {image} ({photo.shape[1]}x{photo.shape[0]} pixels): use a photo with one upright, "
            "well-lit face that looks at the camera (animate takes one that is framed already with --no-crop)."
        )
    if len(faces) > 1 and face is not None and crop:
        x, y = map(round, face.centre)
        text = f"{image} shows {len(faces)} faces: the one at ({x}, {y}) is animated; crop the photo for another."
        notice(text)
    framed = canonical_crop(photo, face, size) if face is not None and crop else _centre(photo, size)
    inside = _within(framed, face, size)
    person = None
    if mask is not None:
        person = _framed_mask(mask, photo, framed, size)
    elif inside is not None:
        person = person_mask(framed.pixels, inside)
    else:
        notice(
            f"No face was found in {image}: its centre square is animated as it is, every part weighs alike in the "
            "probe, and lip-sync isn't measured."
        )
    mouth = None if inside is None else _mouth(inside, size)
    return Scene(framed.pixels, person, mouth, speech, audio.load(recording, SOUND_RATE))


def _centre(photo: np.ndarray, size: int) -> Crop:
    """The largest square in the photo's middle."""
    height, width = photo.shape[:2]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return Crop(_cut(photo, left, top, side, size), left, top, side)


def _cut(picture: np.ndarray, left: int, top: int, side: int, size: int) -> np.ndarray:
    """A square of a picture, brought to ``size``; mirrored where it leaves the picture, as ``canonical_crop`` does."""
    height, width = picture.shape[:2]
    above, below = max(0, -top), max(0, top + side - height)
    before, after = max(0, -left), max(0, left + side - width)
    inner = picture[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)]
    way = cv2.BORDER_REFLECT_101 if min(inner.shape[:2]) > 1 else cv2.BORDER_REPLICATE
    square = cv2.copyMakeBorder(inner, above, below, before, after, way)
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_CUBIC)


def _within(framed: Crop, face: Face | None, size: int) -> Face | None:
    """The photo's face in pixels of the crop."""
    if face is None:
        return None
    scale = size / framed.side
    return Face((face.left - framed.left) * scale, (face.top - framed.top) * scale, face.size * scale, face.score)


def _mouth(face: Face, size: int) -> np.ndarray | None:
    """Where the mouth of a face is while it speaks; None where it lies outside of the picture."""
    canonical = mouth_region(128)
    scale = SIDE * face.size / 128
    x, y = face.centre
    left, top = x - 64 * scale, y + LOWER * face.size - 64 * scale
    move = np.array([[scale, 0, left], [0, scale, top]], np.float32)
    mouth = cv2.warpAffine(canonical, move, (size, size), flags=cv2.INTER_LINEAR)
    return mouth if (mouth > 0.5).any() else None


def _framed_mask(path: Path, photo: np.ndarray, framed: Crop, size: int) -> np.ndarray:
    """A user's mask of the whole photo, cut as the photo was."""
    height, width = photo.shape[:2]
    whole = load_mask(path, (height, width))
    with Image.open(path) as picture:
        wide, high = pictures.upright(picture).size
    if abs(wide * height - high * width) > 0.02 * high * width:
        raise InputError(
            f"The mask {path} has {wide}x{high} pixels, the photo {width}x{height}: give a mask of the photo's shape."
        )
    mask = _cut(whole, framed.left, framed.top, framed.side, size)
    if mask.max() < 1 / 255:
        raise InputError(f"The mask {path} is black where the photo is animated: paint the person white there.")
    return np.clip(mask, 0, 1)
