"""Puts clips beside each other under captions."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from synccache.errors import InputError

PAPER, INK = (250, 250, 248), (30, 30, 34)


def side_by_side(
    clips: Sequence[np.ndarray], labels: Sequence[str], height: int | None = None, gap: int = 4
) -> np.ndarray:
    """One clip of several, left to right, each with its label in a bar above.

    Args:
        clips: uint8 [T, H, W, 3] each; a shorter one holds its last frame.
        labels: one line each, all as large as the longest allows.
        height: of the pictures in the result; by default that of the tallest clip.
        gap: pixels between the pictures.

    Returns:
        uint8 [T, bar + height, W', 3] with even height and width.

    Raises:
        InputError: no clips, or not one label each.
    """
    if not clips or len(clips) != len(labels):
        raise InputError(f"Every clip needs a label: there are {len(clips)} clips and {len(labels)} labels.")
    height = height or max(clip.shape[1] for clip in clips)
    length = max(len(clip) for clip in clips)
    widths = [max(1, round(clip.shape[2] * height / clip.shape[1])) for clip in clips]
    bar = max(14, round(height * 0.12))
    total = sum(widths) + gap * (len(clips) - 1)
    canvas = np.full((length, bar + height + (bar + height) % 2, total + total % 2, 3), PAPER, np.uint8)
    size = min(_fitting(label, width, bar) for label, width in zip(labels, widths, strict=True))
    left = 0
    for clip, label, width in zip(clips, labels, widths, strict=True):
        canvas[:, :bar, left : left + width] = caption(label, width, bar, size)
        for t in range(length):
            canvas[t, bar : bar + height, left : left + width] = _resized(clip[min(t, len(clip) - 1)], width, height)
        left += width + gap
    return canvas


def caption(label: str, width: int, height: int, size: int | None = None) -> np.ndarray:
    """A line of text, centred, `size` pixels high or as large as the bar allows: uint8 [height, width, 3]."""
    picture = Image.new("RGB", (width, height), PAPER)
    font = _font(size or _fitting(label, width, height))
    ImageDraw.Draw(picture).text((width / 2, height / 2), label, INK, font, anchor="mm")
    return np.array(picture)


def _fitting(label: str, width: int, height: int) -> int:
    """The largest size, at least 6, at which the label fits."""
    sizes = range(max(6, round(height * 0.66)), 5, -1)
    return next((size for size in sizes if _font(size).getlength(label) <= width * 0.96), 6)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # DejaVu comes with matplotlib and knows × and −; Pillow's own font doesn't.
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


def _resized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    if image.shape[:2] == (height, width):
        return image
    shrinks = image.shape[0] > height
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
