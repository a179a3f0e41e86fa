"""From tokens to pictures: overlapping patches, and a portrait that is moved and drawn over."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOVE_SCALE = 4  # how the portrait moves is predicted at a quarter of the picture's resolution


def drawn(portrait: Tensor, move: Tensor, change: Tensor) -> Tensor:
    """Bend a portrait into frames and draw the change over it; where nothing moves, the portrait stays as it is.

    A small token can say where a textured patch has gone, but can't hold the texture itself.

    Args:
        portrait: [B, 3, H, W].
        move: [B, T, 4, h, w], smooth: offsets in x and y at which the portrait is looked up, in 32nds of the picture;
            a fade of what is found there (0 keeps it); the logit of standing still.
        change: [B*T, 3, H, W], added to what moves.

    Returns [B*T, 3, H, W].
    """
    height, width = portrait.shape[-2:]
    move = F.interpolate(move.flatten(0, 1), (height, width), mode="bilinear", align_corners=False)
    portraits = portrait[:, None].expand(-1, move.shape[0] // len(portrait), -1, -1, -1).flatten(0, 1)
    still = F.affine_grid(torch.eye(2, 3).to(move)[None], [1, 3, height, width], align_corners=False)
    places = still + move[:, :2].movedim(1, -1) / 16
    looked_up = F.grid_sample(portraits, places, mode="bilinear", padding_mode="border", align_corners=False)
    moves = torch.sigmoid(3 - 4 * move[:, 3:])
    return torch.lerp(portraits, looked_up * (1 - move[:, 2:3]) + change, moves)


class OverlapHead(nn.Module):
    """Tokens to images by patches that overlap and add up, so that no patch edges show around the mouth.

    A transposed convolution written as one matrix product and a fold, which is several times faster on a CPU.

    Args of ``forward``:
        tokens: [N, g*g, D], the g*g patches of N frames.

    Returns [N, channels, g*patch, g*patch].
    """

    def __init__(self, dim: int, channels: int, patch: int, overlap: int, std: float) -> None:
        super().__init__()
        self.patch, self.overlap = patch, overlap
        self.weight = nn.Parameter(torch.randn(dim, channels, patch + 2 * overlap, patch + 2 * overlap) * std)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, tokens: Tensor) -> Tensor:
        patches = self.weight.flatten(1).T @ tokens.transpose(1, 2)  # [N, pixels of a patch, g*g], as fold reads them
        size = math.isqrt(tokens.shape[1]) * self.patch
        pixels = F.fold(patches, (size, size), self.weight.shape[-1], padding=self.overlap, stride=self.patch)
        return pixels + self.bias[:, None, None]
