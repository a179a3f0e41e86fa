"""A picture's or a clip's size."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Of the picture in pixels, and its number of frames; ``motion``: a later clip, with the frames before it."""

    width: int
    height: int
    frames: int = 1
    motion: bool = False
