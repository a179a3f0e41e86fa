"""What the image anatomies share: two streams given back text first, and the token grid of a picture."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..core.anatomy import Grid, version

IMAGE_AND_TEXT: Mapping[str, int] = {"hidden_states": 1, "encoder_hidden_states": 0}


def picture_grid(latent: str, patch: tuple[int, int, int]) -> Grid:
    """Token grid (1, h, w) of a latent [B, C, H, W]; None where it has another shape."""

    def grid(arguments: Mapping[str, Any]) -> tuple[int, int, int] | None:
        value = arguments.get(latent)
        if not isinstance(value, Tensor) or value.ndim != 4:
            return None
        return 1, value.shape[2] // patch[1], value.shape[3] // patch[2]

    return grid


class PositionGrid:
    """Token grid (1, h, w) of the first picture in a sequence of packed tokens, from their positions.

    The positions [S, n] or [B, S, n] hold (picture, row, column) and perhaps more for each token; a picture's tokens
    come row by row, and those of reference pictures follow under another picture number. They are read once for as long
    as the model is called with the same tensor: on an accelerator reading waits for it.

    Args:
        argument: name of the forward's argument that holds the positions.
        before: number of tokens before the picture, from the forward's bound arguments; None: none.
    """

    def __init__(self, argument: str, before: Callable[[Mapping[str, Any]], int] | None = None) -> None:
        self.argument, self.before = argument, before
        self._last: tuple[weakref.ref[Tensor], int | None, int, tuple[int, int, int] | None] | None = None

    def __call__(self, arguments: Mapping[str, Any]) -> tuple[int, int, int] | None:
        """(1, h, w), or None where the positions tell none."""
        positions = arguments.get(self.argument)
        if not isinstance(positions, Tensor) or positions.shape[-1] < 3:
            return None
        start = self.before(arguments) if self.before is not None else 0
        last, now = self._last, version(positions)
        if last is None or last[0]() is not positions or last[1:3] != (now, start):
            rows = positions[0] if positions.ndim == 3 else positions
            last = (weakref.ref(positions), now, start, _first_picture(rows[start:]))
            self._last = last
        return last[3]


def _first_picture(positions: Tensor) -> tuple[int, int, int] | None:
    """Size of the picture that the first of the positions [S, n] belongs to."""
    if not len(positions):
        return None
    # Rows beyond 256 may share a number (positions in bfloat16), the first row and the next one don't.
    same = positions == positions[0]
    picture = same[:, 0].long().cumprod(0)
    row = picture * same[:, 1].long().cumprod(0)
    count, width = torch.stack([picture.sum(), row.sum()]).tolist()
    return (1, count // width, width) if count % width == 0 else None
