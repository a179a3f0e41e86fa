"""How far a mouth is open, measured from pixels."""

from __future__ import annotations

import cv2
import numpy as np

from .scenery import Array

MOUTH_WIDTH = 0.105  # of the frame: turns the area of an open mouth into its height


def measure_opening(frames: Array, mouth: Array, reference: Array) -> Array:
    """Height of what has opened in the mouth since the reference, in fractions of the frame.

    Needs no landmarks and no thresholds on colours, so that it works alike on rendered, generated and photographed
    portraits, beards and any skin, and is relative to the mouth at rest, a smile with teeth too. Every frame is
    shifted so that the face just above the mouth (nose, cheeks) lies on that of the reference. Then a pixel is new
    where no pixel of the reference *nearby* has about its colour: skin and lips that merely moved are not new, the
    inside of an opening mouth is. The area of new pixels over the width of a mouth is the answer.

    Args:
        frames: uint8 [T, H, W, 3].
        mouth: float32 [H, W] in 0..1, where the mouth is over the whole clip.
        reference: uint8 [H, W, 3], the same person with the mouth at rest.

    Returns:
        float32 [T]: about 0 at rest, about 0.1 for a mouth wide open.
    """
    height, width = reference.shape[:2]
    if frames.ndim != 4 or frames.shape[1:] != reference.shape or mouth.shape != (height, width):
        raise ValueError(
            f"frames [T, H, W, 3], mouth [H, W] and reference [H, W, 3] must be of one size; "
            f"found {frames.shape}, {mouth.shape} and {reference.shape}"
        )
    rows, columns = np.flatnonzero((mouth > 0.5).any(1)), np.flatnonzero((mouth > 0.5).any(0))
    if not len(rows):
        return np.zeros(len(frames), np.float32)
    box = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    still, *moving = (cv2.GaussianBlur(f, (0, 0), 0.0055 * height) for f in [reference, *frames])
    aligned = np.stack([_aligned(frame, still, box) for frame in moving])
    novelty = _novelty(aligned, still, box)
    skin = float(np.median(cv2.cvtColor(reference, cv2.COLOR_RGB2GRAY)[mouth > 0.5]))
    low, high = 10 + 0.04 * skin, 24 + 0.15 * skin  # dark skin hides more of the dark inside
    new = np.clip((novelty - low) / (high - low), 0, 1)
    return (new.sum((1, 2)) / (height * width * MOUTH_WIDTH)).astype(np.float32)


def _aligned(frame: Array, still: Array, box: tuple[int, int, int, int]) -> Array:
    """The part `box` of the frame after moving the face above the mouth to where it is in `still`."""
    top, bottom, left, right = box
    size = len(still)
    above, reach = max(0, top - round(0.17 * size)), round(0.085 * size)
    if top - above < 4:
        return frame[top:bottom, left:right]
    wide = cv2.copyMakeBorder(frame, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
    search = wide[above : top + 2 * reach, left : right + 2 * reach]
    found = cv2.matchTemplate(search, still[above:top, left:right], cv2.TM_CCOEFF_NORMED)
    dx, dy = cv2.minMaxLoc(found)[3]
    return wide[top + dy : bottom + dy, left + dx : right + dx]


def _novelty(aligned: Array, still: Array, box: tuple[int, int, int, int]) -> Array:
    """Distance [T, h, w] of every pixel's colour to the nearest one in the reference's neighbourhood, 0..765."""
    top, bottom, left, right = box
    unit = len(still) / 128
    up, down, side = round(10 * unit), round(6 * unit), round(5 * unit)
    wide = cv2.copyMakeBorder(still, up, down, side, side, cv2.BORDER_REPLICATE)
    frames, height, width = aligned.shape[:3]
    tall = np.ascontiguousarray(aligned).reshape(frames * height, width, 3)
    nearest = np.full((frames * height, width), 255, np.uint8)
    step = max(1, round(unit))
    third = np.full((1, 3), 1 / 3, np.float32)
    for dy in range(0, up + down + 1, step):
        for dx in range(0, 2 * side + 1, step):
            part = wide[top + dy : bottom + dy, left + dx : right + dx]
            distance = cv2.transform(cv2.absdiff(tall, np.tile(part, (frames, 1, 1))), third)
            cv2.min(nearest, distance, nearest)
    return nearest.reshape(frames, height, width) * np.float32(3)
