"""Soft masks of a person in a photo, from a detected face or from the user's own picture, and their way to tokens.

A face detector gives a box; head and shoulders follow from the proportions of people. That is exact enough for
weighing a probe's error, and needs no segmentation network.
"""

from __future__ import annotations

import warnings
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool3d

from ..core.mask import refuse_colour
from ..core.notices import notice
from ..errors import InputError

if TYPE_CHECKING:
    from ..portrait.framing import Face

Array = np.ndarray

LARGEST = 50_000_000  # pixels of a mask file


def person_mask(image: Array, face: Face | None = None) -> Array:
    """Head, hair and shoulders of the person in a photo.

    Args:
        image: uint8 [H, W, 3], RGB.
        face: from `portrait.framing.detect_face`; looked for when None.

    Returns:
        float32 [H, W] in 0..1, soft at the edges. Without a face: all ones, and one warning, so that whatever is
        weighed by the mask is weighed uniformly.

    Raises:
        InputError: the array is not an image.
    """
    found = _face_of(image, face, "the whole picture is treated as the person")
    if found is None:
        return np.ones(image.shape[:2], np.float32)
    x, y = _grid(image, found)
    head = 1 - np.sqrt((x / 0.70) ** 2 + ((y + 0.15) / 0.95) ** 2)
    # neck and shoulders: half as wide as the head under the chin, then sloping outwards, down to the border
    below = np.clip((y - 0.68) / 0.5, 0, 0.7)
    half = 0.42 + 1.9 * below**1.2
    torso = np.minimum((half - np.abs(x)) / (1 + 4.5 * below), y - 0.5)
    return np.maximum(_soft(head, 0.12), _soft(torso, 0.25))


def face_mask(image: Array, face: Face | None = None) -> Array:
    """The face from forehead to chin, without hair and neck; arguments and result as for `person_mask`."""
    found = _face_of(image, face, "the whole picture is treated as the face")
    if found is None:
        return np.ones(image.shape[:2], np.float32)
    x, y = _grid(image, found)
    return _soft(1 - np.sqrt((x / 0.52) ** 2 + ((y - 0.05) / 0.66) ** 2), 0.12)


def load_mask(path: str | PathLike, size: int | tuple[int, int]) -> Array:
    """Read a user's own mask: a picture that is white where the person is.

    Args:
        path: PNG, JPEG or any other picture that Pillow reads; a transparent one counts by brightness times opacity.
        size: (height, width) to bring it to, or one number for a square.

    Returns:
        float32 [height, width] in 0..1.

    Raises:
        InputError: the file is missing, no picture, larger than 50 million pixels, or shows no person (all black).
    """
    from PIL import Image, UnidentifiedImageError

    from ..media.image import known_formats, upright

    path = Path(path)
    height, width = (size, size) if isinstance(size, int) else size
    if not path.is_file():
        raise InputError(f"the mask {path} was not found, or is no file: give the path of a black-and-white picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=known_formats()) as opened:
                wide, high = opened.size
                if wide * high > LARGEST:
                    raise InputError(f"the mask {path} has {wide}x{high} pixels; scale it below 50 million")
                picture = upright(opened)
                wide, high = picture.size
                refuse_colour(picture, f"The mask {path}")
                mask = _brightness(picture)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the mask {path} cannot be read as a picture ({error}): save it as PNG again") from error
    shrinking = high > height or wide > width
    mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
    if mask.max() < 1 / 255:
        raise InputError(f"the mask {path} is black all over: paint the person white")
    return np.clip(mask, 0, 1)


def to_token_grid(mask: Array | Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Pool a mask to a transformer's video tokens by area.

    Args:
        mask: [H, W], the same in all frames, or [T, H, W]; 0..1.
        grid: tokens in time, height and width.

    Returns:
        float32 [t * h * w], in the order in which video DiTs flatten their tokens; its mean is the mask's where the
        grid divides the mask's shape.

    Raises:
        InputError: the mask has another number of dimensions, is empty, or the grid is not positive.
    """
    whole = torch.as_tensor(mask, dtype=torch.float32)
    if whole.ndim not in (2, 3) or not whole.numel():
        raise InputError(f"a mask must be [H, W] or [T, H, W] and not empty; found {list(whole.shape)}: reshape it")
    if len(grid) != 3 or min(grid) < 1:
        raise InputError(f"a token grid is three positive counts (time, height, width); found {grid!r}: correct it")
    if whole.ndim == 2:
        whole = whole[None]
    return adaptive_avg_pool3d(whole[None], tuple(grid))[0].flatten()


def _face_of(image: Array, face: Face | None, consequence: str) -> Face | None:
    if face is None:
        from ..portrait.framing import detect_face

        face = detect_face(image)
        if face is None:
            notice(
                f"no face was found in the {image.shape[1]}x{image.shape[0]} picture: {consequence}; "
                "give a mask of your own, or a photo with one upright face",
                UserWarning,
            )
    return face


def _grid(image: Array, face: Face) -> tuple[Array, Array]:
    """Coordinates of all pixels around the face box's centre, in face boxes: row [1, W] and column [H, 1]."""
    x, y = face.centre
    height, width = image.shape[:2]
    across = (np.arange(width, dtype=np.float32) + 0.5 - x) / face.size
    down = (np.arange(height, dtype=np.float32) + 0.5 - y) / face.size
    return across[None].astype(np.float32), down[:, None].astype(np.float32)


def _soft(inside: Array, width: float) -> Array:
    t = np.clip(inside / width + 0.5, 0, 1).astype(np.float32)
    return t * t * (3 - 2 * t)


def _brightness(picture) -> Array:
    """float32 [H, W] in 0..1 of a Pillow image."""
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture, np.float32)
        return values / (65535 if values.max() > 255 else 255 if values.max() > 1 else 1)
    values = np.asarray(picture.convert("LA"), np.float32) / 255
    return np.ascontiguousarray(values[..., 0] * values[..., 1])
