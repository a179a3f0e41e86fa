"""Two frequency bands over the token grid, each with a forecast of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..core.types import Context, Forecaster
from .grouped import Grouped
from .projection import Projection


@dataclass(frozen=True)
class LowPass(Projection):
    """Keeps what varies slowly over the picture: group 1 is the low band, group 0 the high one.

    On a known token grid (t, h, w), per frame and channel, the orthonormal 2-D DCT-II coefficients (u, v) with
    ``sqrt((u/h)^2 + (v/w)^2) <= keep sqrt(((h-1)/h)^2 + ((w-1)/w)^2)``: on a square grid the paper's
    ``sqrt(u^2 + v^2) <= keep max``, and on a rectangular one the same length of wave both ways. They are few, so P is
    two small matrix products with the [K, h w] rows of the kept ones. Only video tokens are split; others (reference,
    motion, text, streams without video) go with group 0. Where the grid is unknown or not whole (ranks that share the
    tokens): the real Fourier coefficients along the whole token axis up to ``keep`` of the highest frequency.

    Args:
        keep: radius of the low band in parts of the highest frequency; 0 keeps nothing, not even the mean.
    """

    keep: float = 0.1
    apart = (0, -1)
    _known: dict[tuple, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def fits(self, value: Tensor, context: Context) -> bool:
        return value.ndim == 3 and self.keep > 0 and context.video

    def add_kept(self, result: Tensor, change: Tensor, context: Context) -> None:
        batch, tokens, width = change.shape
        t, h, w = context.grid or (0, 0, 0)
        video = slice(context.offset, context.offset + t * h * w)
        if not 0 < video.stop <= tokens or t * h * w == 0:
            result.add_(self._slow(change))
            return
        rows = self._moved(h, w, change)
        coefficients = rows @ change[:, video].reshape(batch * t, h * w, width)
        result[:, video] += (rows.T @ coefficients).reshape(batch, t * h * w, width)

    def rows(self, h: int, w: int) -> Tensor:
        """[K, h w] float64 with orthonormal rows: the kept waves."""
        u, v = torch.arange(h)[:, None] / h, torch.arange(w)[None] / w
        highest = math.hypot((h - 1) / h, (w - 1) / w)
        low = torch.hypot(u, v) <= self.keep * highest + 1e-6
        return torch.einsum("uy,vx->uvyx", dct(h), dct(w))[low].flatten(1)

    def _moved(self, h: int, w: int, like: Tensor) -> Tensor:
        key = (h, w, like.device, like.dtype)
        if key not in self._known:
            self._known[key] = self.rows(h, w).to(like)
        return self._known[key]

    def _slow(self, change: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(change, dim=1)
        highest = change.shape[1] // 2
        spectrum[:, int(self.keep * highest + 1e-6) + 1 :] = 0
        return torch.fft.irfft(spectrum, n=change.shape[1], dim=1)


def dct(n: int) -> Tensor:
    """[n, n] float64, the orthonormal DCT-II: ``C[u, x] = sqrt((1 or 2) / n) cos(pi (x + 1/2) u / n)``."""
    u, x = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)[None]
    matrix = torch.cos(math.pi * (x + 0.5) * u / n) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix


@dataclass(frozen=True)
class ByFrequency(Grouped):
    """``F = F_high + P (F_low - F_high)``, P the low band of the token grid."""

    low: Forecaster
    high: Forecaster
    split: LowPass = field(default_factory=LowPass)

    @property
    def rules(self) -> tuple[Forecaster, ...]:  # type: ignore[override]
        return self.high, self.low
