"""Where tokens stand: patches with overlap, rotary tables, places in the picture, who sees whom."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PAIR = 2  # frames of a patch
PATCH = 4  # pixels of a patch
OVERLAP = 2  # pixels that a patch sees and draws beyond its own
WIDE = PATCH + 2 * OVERLAP
FIRST, REFERENCE = -1.0, -4.0  # times at which the pictures stand, in pairs of frames


def patches_of(video: Tensor) -> Tensor:
    """[B, C, T, H, W] cut into overlapping patches [B, T/2, h*w, C*2*8*8]."""
    padded = F.pad(video, (OVERLAP,) * 4)
    cut = padded.unfold(3, WIDE, PATCH).unfold(4, WIDE, PATCH).unfold(2, PAIR, PAIR)  # [B, C, F, h, w, 8, 8, 2]
    return cut.permute(0, 2, 3, 4, 1, 7, 5, 6).flatten(4).flatten(2, 3)


class Drawn(nn.Module):
    """Tokens to a clip, by patches that overlap and add up.

    Args of ``forward``:
        tokens: [B, F, h*w, D].
        size: (H, W) in pixels.

    Returns [B, 3, 2*F, H, W].
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(dim, 3 * PAIR * WIDE * WIDE) * 0.01)
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        batch, frames = tokens.shape[:2]
        pieces = self.weight.T @ tokens.flatten(0, 1).transpose(1, 2)  # [B*F, 3*2*8*8, h*w], as fold reads them
        pixels = F.fold(pieces, size, WIDE, padding=OVERLAP, stride=PATCH)
        pixels = pixels.reshape(batch, frames, 3, PAIR, *size).transpose(1, 2).flatten(2, 3)
        return pixels + self.bias[:, None, None, None]


@lru_cache(maxsize=64)
def rotary_tables(
    times: tuple[float, ...], height: int, width: int, head_dim: int, theta: float = 100.0
) -> tuple[Tensor, Tensor]:
    """Cosine and sine tables [1, N, 1, head_dim], pairwise interleaved, of token frames at ``times``."""
    axes = torch.tensor(times, dtype=torch.float64), torch.arange(height).double(), torch.arange(width).double()
    positions = torch.cartesian_prod(*axes)
    pairs = head_dim // 2
    per_axis = (pairs - 2 * (pairs // 3), pairs // 3, pairs // 3)
    angles = []
    for axis, count in enumerate(per_axis):
        freqs = theta ** (-torch.arange(count, dtype=torch.float64) / count)
        angles.append(positions[:, axis, None] * freqs)
    table = torch.cat(angles, dim=1).repeat_interleave(2, dim=1)
    return table.cos().float()[None, :, None], table.sin().float()[None, :, None]


PLACE_FEATURES = 18


@lru_cache(maxsize=64)
def place_features(height: int, width: int) -> Tensor:
    """Smooth features [h*w, PLACE_FEATURES] of each token's place in the frame, and of the frame's size.

    Places are parts of the frame, so that the same composition suits every size.
    """
    y = (torch.arange(height) * 2 + 1) / height - 1
    x = (torch.arange(width) * 2 + 1) / width - 1
    places = torch.cartesian_prod(y, x)
    waves = torch.pi / 2 * torch.arange(1, 5) * places[..., None]  # [h*w, 2, 4]
    grain = torch.full((len(places), 2), 1.0) * torch.tensor([height / 8, width / 8]).log2()
    return torch.cat([waves.sin().flatten(1), waves.cos().flatten(1), grain], 1)


@lru_cache(maxsize=64)
def causal_mask(times: tuple[float, ...], clip: int, per_frame: int) -> Tensor:
    """Who sees whom [N, N]: nobody looks ahead in time, and what is given never looks at the clip.

    Args:
        times: of the token frames; the first ``clip`` of them are the clip's, the others are given.
        per_frame: tokens of a frame.
    """
    time, own = torch.tensor(times), torch.arange(len(times)) < clip
    seen = (time[None] <= time[:, None]) & (own[:, None] | ~own[None])
    return seen.repeat_interleave(per_frame, 0).repeat_interleave(per_frame, 1)
