"""What the minimal builds share: attention with rotary positions, time embedding, patches."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def heads_of(x: Tensor, heads: int) -> Tensor:
    """[B, S, D] as [B, heads, S, D / heads]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention over [B, H, S, C], given back as [B, S, H * C]."""
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair of neighbouring channels of [B, H, S, C] by the angles in cos, sin [S, C / 2]."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).to(x.dtype)


def rotary(places: Tensor, axes: tuple[int, int, int], theta: float = 10000.0) -> tuple[Tensor, Tensor]:
    """Cosine and sine, float32 [S, sum(axes) / 2], of tokens at ``places`` [S, 3] in (t, h, w).

    Args:
        axes: channels of a head that turn with each axis; even numbers.
    """
    angles = []
    for axis, channels in enumerate(axes):
        pairs = torch.arange(channels // 2, device=places.device, dtype=torch.float32)
        angles.append(places[:, axis, None].float() * theta ** (-2 * pairs / channels))
    table = torch.cat(angles, dim=1)
    return table.cos(), table.sin()


def places_of(grid: tuple[int, int, int], first: int, device: torch.device) -> Tensor:
    """(t, h, w) of every token of a grid, [T * h * w, 3], with t counted from ``first``."""
    t, h, w = (torch.arange(n, device=device) for n in grid)
    return torch.cartesian_prod(t + first, h, w)


class TimeEmbedding(nn.Module):
    """[B] numbers to [B, out]: sinusoids of 256 frequencies, then two layers."""

    def __init__(self, out: int) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(256, out), nn.Linear(out, out)

    def forward(self, t: Tensor) -> Tensor:
        steps = torch.arange(128, device=t.device, dtype=torch.float32) * (-math.log(10000.0) / 128)
        angles = t.float()[:, None] * steps.exp()
        waves = torch.cat([angles.cos(), angles.sin()], dim=1)
        return self.leave(F.silu(self.enter(waves.to(self.enter.weight.dtype))))


def patches_of(embed: nn.Module, latent: Tensor) -> Tensor:
    """Tokens [B, S, D] of a latent [B, C, T, H, W]."""
    return embed(latent).flatten(2).transpose(1, 2)


def latent_of(tokens: Tensor, grid: tuple[int, int, int], channels: int) -> Tensor:
    """[B, t * h * w, 4 * C] as a latent [B, C, t, 2h, 2w]: patches of (1, 2, 2), channels fastest."""
    t, h, w = grid
    x = tokens.reshape(tokens.shape[0], t, h, w, 2, 2, channels)
    return x.permute(0, 6, 1, 2, 4, 3, 5).reshape(tokens.shape[0], channels, t, 2 * h, 2 * w)
