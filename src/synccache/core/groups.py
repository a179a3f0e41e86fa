"""Groups of video tokens that are computed on steps of their own, and rows of tensors that have one for each token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

ROWS = -2  # the dimension of a [B, S, D] stream, or of [B, heads, S, D] keys and values, that has a row for each token


@dataclass(frozen=True, eq=False)
class Groups:
    """All video tokens of a run, each in one group.

    Attributes:
        order: [B or 1, V] indices of each sample's tokens, group after group, on the device.
        sizes: how many tokens each group has, in every sample.
    """

    order: Tensor
    sizes: tuple[int, ...]

    @cached_property
    def numbers(self) -> Tensor:
        """[B or 1, V] the group of each token."""
        sizes = torch.tensor(self.sizes, device=self.order.device)
        each = torch.arange(len(self.sizes), device=self.order.device).repeat_interleave(
            sizes, output_size=sum(self.sizes)
        )
        return torch.empty_like(self.order).scatter_(1, self.order, each.expand_as(self.order))

    def tokens(self, active: Sequence[int]) -> Tensor:
        """[B or 1, n] indices, ascending, of the tokens of some groups."""
        parts = self.order.split(self.sizes, dim=1)
        return torch.cat([self.order[:, :0], *(parts[g] for g in active)], dim=1).sort(dim=1).values


def take(x: Tensor, index: Tensor, dim: int = ROWS) -> Tensor:
    """The rows of ``x`` that ``index`` [B or 1, n] names, of each sample its own; ``x`` may have one for all."""
    dim %= x.ndim
    if x.element_size() == 1 and x.dtype is not torch.uint8:  # of eight bits torch copies no rows
        return take(x.view(torch.uint8), index, dim).view(x.dtype)
    if len(index) == 1:
        return x.index_select(dim, index[0])
    samples = [n if i else len(index) for i, n in enumerate(x.shape)]
    return x.expand(samples).gather(dim, _wide(index, [n if i != dim else -1 for i, n in enumerate(samples)], dim))


def put_(x: Tensor, index: Tensor, rows: Tensor) -> Tensor:
    """Write ``rows`` into ``x`` in the places that ``take`` has them from."""
    rows = rows.to(x)
    if x.element_size() == 1 and x.dtype is not torch.uint8:
        put_(x.view(torch.uint8), index, rows.contiguous().view(torch.uint8))
        return x
    index, dim = index.to(x.device), ROWS % x.ndim
    if len(index) == 1:
        return x.index_copy_(dim, index[0], rows)
    return x.scatter_(dim, _wide(index, rows.shape, dim), rows)


def _wide(index: Tensor, shape: Sequence[int], dim: int) -> Tensor:
    """``index`` [B, n] for ``gather`` along ``dim`` of something of this shape."""
    narrow = [len(index), *(index.shape[1] if i == dim else 1 for i in range(1, len(shape)))]
    return index.reshape(narrow).expand([narrow[dim] if i == dim else n for i, n in enumerate(shape)])


def to_tokens(x: Tensor, grid: tuple[int, int, int]) -> Tensor | None:
    """A video [B, C, T, H, W] token by token: [B, V, values of a patch]; None if it can't be cut by that grid."""
    if x.ndim != 5 or any(n % g for n, g in zip(x.shape[2:], grid, strict=True)):
        return None
    (t, h, w), (frames, height, width) = grid, x.shape[2:]
    patches = x.reshape(*x.shape[:2], t, frames // t, h, height // h, w, width // w)
    return patches.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(len(x), t * h * w, -1)


def to_video(tokens: Tensor, grid: tuple[int, int, int], shape: torch.Size) -> Tensor:
    """The inverse of ``to_tokens``, for a video of that shape."""
    (t, h, w), (batch, channels, frames, height, width) = grid, shape
    patches = tokens.reshape(batch, t, h, w, channels, frames // t, height // h, width // w)
    return patches.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(shape)
