"""The words that the stage model knows: names of what scenes hold, and captions as numbers.

A caption is plain English; words that carry nothing (``FILLERS``) and punctuation are dropped before it is numbered:
``"a red cat in the park, the red one speaks"`` has the tokens ``red cat park red speaks``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InputError

SCENES = ("park", "city", "sea", "sky", "floor", "stripes")
COLOURS = {
    "red": (0.88, 0.14, 0.14),
    "green": (0.16, 0.74, 0.22),
    "blue": (0.18, 0.34, 0.94),
    "yellow": (0.96, 0.86, 0.18),
    "purple": (0.56, 0.2, 0.78),
    "orange": (0.98, 0.52, 0.1),
    "pink": (0.98, 0.6, 0.76),
}
COLOUR_NAMES = tuple(COLOURS)
SHAPES = ("round", "box", "cat")
CAMERAS = ("stays", "pans left", "pans right", "nears", "leaves", "shakes")
PROPS = ("", "disc", "post", "bird")  # what passes in front; "" is nothing
WEATHERS = ("", "rain", "snow")
PLACES = {1: ("middle",), 2: ("left", "right"), 3: ("left", "middle", "right")}

FILLERS = {"a", "an", "the", "one", "ones", "and", "in", "with", "on", "is", "of", "it", "into", "to", "make"}
WORDS = (
    "",  # padding
    *SCENES,
    *COLOUR_NAMES,
    *SHAPES,
    *("left", "middle", "right"),
    *("camera", "stays", "pans", "nears", "leaves", "shakes"),
    *("disc", "post", "bird", "passes", "rain", "snow"),
    *("speaks", "answers", "smiling", "this", "speaker", "paint", "turn", "add", "remove", "smile"),
)
NUMBERS = {word: number for number, word in enumerate(WORDS)}
CAPTION_TOKENS = 20


def tokens_of(captions: Sequence[str]) -> Tensor:
    """Numbers of the captions' words, int64 [B, CAPTION_TOKENS], padded with 0.

    Raises:
        InputError: a word is unknown, or a caption is too long.
    """
    rows = torch.zeros(len(captions), CAPTION_TOKENS, dtype=torch.int64)
    for row, caption in enumerate(captions):
        words = [word for word in re.findall(r"\w+", caption.lower()) if word not in FILLERS]
        unknown = [word for word in words if word not in NUMBERS]
        if unknown:
            known = ", ".join(sorted(WORDS[1:]))
            raise InputError(f"The stage model doesn't know the word {unknown[0]!r}; it knows {known}.")
        if len(words) > CAPTION_TOKENS:
            raise InputError(f"A caption may have {CAPTION_TOKENS} known words, but {caption!r} has {len(words)}.")
        rows[row, : len(words)] = torch.tensor([NUMBERS[word] for word in words], dtype=torch.int64)
    return rows
