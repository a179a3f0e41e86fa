"""A person mask, pooled to the grid of video tokens."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..extras import require
from .notices import Notices

GREY = ("1", "L", "LA", "La", "I", "I;16", "F")  # modes of PIL images without colour
COLOURED = 40  # difference between a pixel's channels, of 255


def checked_mask(mask: Any) -> Tensor | None:
    """A mask as float32 in 0..1.

    Args:
        mask: [H, W] picture, [T, H, W] one picture per frame, [B, T or 1, H, W] one for each sample, [V] or [1, V]
            weights of the video tokens; a tensor or anything that ``torch.as_tensor`` takes; uint8 counts as 0..255. A
            PIL image, or the path of a picture file: its brightness; it may be stored in colour, but not be coloured.

    Raises:
        InputError: no picture could be read, a colour picture, another shape, or values outside 0..1.
    """
    if mask is None:
        return None
    name = "The mask"
    if isinstance(mask, str | Path):
        name, mask = f"The mask {mask}", _read(Path(mask))
    if hasattr(mask, "convert") and hasattr(mask, "getbands"):  # a PIL image
        refuse_colour(mask, name)
        mask = np.array(mask.convert("L"))
    try:
        tensor = mask if isinstance(mask, Tensor) else torch.as_tensor(np.array(mask))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"A mask is a picture file, a PIL image, an array or a tensor, not a {type(mask).__name__} ({error})."
        ) from None
    if tensor.is_complex():
        raise InputError("A mask's values are real numbers in 0..1, not complex ones.")
    tensor = tensor.detach().float() / (255 if tensor.dtype is torch.uint8 else 1)
    if not 1 <= tensor.ndim <= 4 or tensor.numel() == 0:
        raise InputError(f"A mask has shape [H, W], [T, H, W], [B, T, H, W] or [tokens], not {list(tensor.shape)}.")
    if tensor.ndim == 3 and tensor.shape[-1] in (3, 4) and min(tensor.shape[:2]) > 4:
        raise InputError(
            f"A mask has one value a pixel; {list(tensor.shape)} is a colour picture. Give a mask of it, as "
            "synccache.masks.person.person_mask finds one in a photo, or one channel if it is black and white."
        )
    low, high = float(tensor.min()), float(tensor.max())
    if not (low >= 0 and high <= 1):
        raise InputError(f"A mask's values lie in 0..1 (uint8: 0..255), not in {low:g}..{high:g}. Scale it.")
    return tensor


def _read(path: Path) -> Any:
    require("Reading a mask from a file", "PIL")
    from PIL import Image  # pictures are read here alone

    from ..media.image import known_formats, upright

    try:
        with Image.open(path, formats=known_formats()) as picture:
            return upright(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        text = f"{path} can't be read as a mask ({error}). Give a picture file, white where the person is."
        raise InputError(text) from None


def refuse_colour(picture: Any, name: str) -> None:
    """Refuse a PIL image that is coloured, as a photo is; one that is grey but stored in colour will do.

    Raises:
        InputError: over 1 % of its pixels are coloured, by more than JPEG colours a grey picture.
    """
    if picture.mode in GREY:
        return
    pixels = np.asarray(picture.convert("RGB"), np.int16)
    coloured = float((np.ptp(pixels, axis=-1) > COLOURED).mean())
    if coloured > 0.01:
        raise InputError(
            f"{name} is a colour picture ({coloured:.0%} of its pixels are coloured), not a mask. Give a black and "
            "white one, white where the person is; synccache.masks.person.person_mask finds one in a photo."
        )


def misfit(mask: Tensor, grid: tuple[int, int, int]) -> str | None:
    """What is wrong with the shape of a mask of pictures on a video of t × h × w tokens; None where they fit.

    Tokens are square, and pictures are cut or filled up to whole ones, so that sides may differ by one token, and a
    little more. An even mask fits everywhere.
    """
    if mask.ndim < 2 or mask.shape[-2] == 1 or bool((mask == mask.flatten()[0]).all()):
        return None
    (height, width), (t, h, w) = mask.shape[-2:], grid
    frames = mask.shape[-3] if mask.ndim > 2 else 1
    if not (h - 1) * width <= 1.1 * height * (w + 1) or not (w - 1) * height <= 1.1 * width * (h + 1):
        return f"it has {width} × {height} pixels, the video {w} × {h} tokens, which is another shape"
    if frames > 1 and not t <= frames <= 8 * t:
        return f"it has {frames} frames, the video {t} frames of tokens"
    return None


def token_weights(mask: Tensor, grid: tuple[int, int, int] | None, tokens: int | None, batch: int) -> Tensor | None:
    """Average the mask over each token's patch.

    Args:
        mask: as ``checked_mask`` gives it.
        grid: the video tokens' (t, h, w), or None if unknown.
        tokens: number of video tokens, or None if unknown.
        batch: number of samples; a per-sample mask repeats over guidance branches in one batch.

    Returns [1 or batch, V], or None where a picture can't be pooled for want of a grid.

    Raises:
        InputError: token weights, or a number of samples, that don't fit.
    """
    if mask.ndim == 1 or (mask.ndim == 2 and mask.shape[0] == 1 and grid is not None and grid[1] * grid[2] > 1):
        weights = mask.reshape(1, -1)
        expected = grid[0] * grid[1] * grid[2] if grid else tokens
        if expected is not None and weights.shape[1] != expected:
            raise InputError(f"The mask has {weights.shape[1]} token weights, the model {expected} video tokens.")
        return weights
    if grid is None:
        return None
    t, h, w = grid
    video = mask.reshape((1,) * (4 - mask.ndim) + tuple(mask.shape))
    if video.shape[1] == 1:
        pooled = F.adaptive_avg_pool2d(video, (h, w)).expand(-1, t, -1, -1)
    else:
        pooled = F.adaptive_avg_pool3d(video, (t, h, w))
    weights = pooled.reshape(pooled.shape[0], -1)
    if batch % weights.shape[0]:
        raise InputError(f"The mask is for {weights.shape[0]} samples, the transformer is called with {batch}.")
    return weights if weights.shape[0] == 1 else weights.repeat(batch // weights.shape[0], 1)


class TokenMask:
    """The user's mask, or else the one that the model is called with, and its weights for the tokens of the last call,
    which the next one usually shares."""

    def __init__(self, mask: Tensor | None) -> None:
        self.mask = mask
        self._call = threading.local()
        self._last: tuple[Tensor | None, Any, Tensor | None] = (None, None, None)

    def called_with(self, mask: Tensor | None) -> None:
        """Take the mask [B, T or 1, h, w] of the call that begins on this thread."""
        self._call.mask = mask

    @property
    def known(self) -> bool:
        return self._mask is not None

    @property
    def _mask(self) -> Tensor | None:
        return self.mask if self.mask is not None else getattr(self._call, "mask", None)

    def on(self, stream: Tensor, grid: tuple[int, int, int] | None, notices: Notices) -> Tensor | None:
        """Weight of each video token [1 or B, V], on the device of their stream [B, V, D]; None without a mask."""
        mask = self._mask
        if mask is None:
            return None
        key = (grid, tuple(stream.shape[:2]), stream.device)
        last, known, weights = self._last
        if last is not mask or known != key:
            tokens = stream.shape[1] if stream.ndim == 3 else None
            weights = token_weights(mask, grid, tokens, stream.shape[0])
            wrong = misfit(mask, grid) if weights is not None and grid is not None and self.mask is mask else None
            if wrong is not None:
                notices.say(
                    "mask's shape",
                    f"The mask is stretched to the video: {wrong}. Give a mask of the video's own pictures, cut and "
                    "scaled as the pipeline does with the portrait.",
                )
            if weights is None:
                notices.say(
                    "grid",
                    "The mask is not used: the model's token grid is not known. Pass token weights [tokens] as the "
                    "mask, or anatomy=Anatomy(..., grid=...).",
                )
            elif tokens is not None and weights.shape[1] != tokens:
                notices.say(
                    "shard",
                    f"The mask is not used: it has {weights.shape[1]} tokens, and {tokens} video tokens are here, as "
                    "where several ranks share the tokens of a video.",
                )
                weights = None
            weights = None if weights is None else weights.to(stream.device)
            self._last = mask, key, weights
        return weights
