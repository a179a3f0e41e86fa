"""Small models in which a wrong path shows.

``AddModel`` is exact: its sums are small whole numbers, so that every path has an answer of its own. ``Video`` is the
smallest model that does what the real ones do: attention, a time embedding, audio added between blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, random numbers start from ``seed``; outside, they go on as if nothing had been."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


class AddBlock(nn.Module):
    """Adds ``weight * level`` to every element. ``calls`` counts how often it ran."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(float(weight)))
        self.calls = 0

    def forward(self, hidden_states: Tensor, level: Tensor) -> Tensor:
        self.calls += 1
        return hidden_states + self.weight * level


class AddModel(nn.Module):
    """Blocks that add 1, 2 and 3 times ``level``, so 6 levels in all.

    Called with 20s at level 3.5, and then with 20s at level 4, the second call gives 20 + 6 * 4 = 44 where it is
    computed, and 20 + 6 * 3.5 = 41 where it is filled in from the first. Blocks that are left out with nothing in their
    place would give 20; a block that is filled in and runs as well, 45, 49 or 53.
    """

    def __init__(self, weights: tuple[float, ...] = (1, 2, 3)) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(AddBlock(w) for w in weights)

    def forward(self, hidden_states: Tensor, timestep: Tensor, level: Tensor) -> Tensor:
        for block in self.blocks:
            hidden_states = block(hidden_states, level)
        return hidden_states


class SelfAttention(nn.Module):
    """[B, S, D] to [B, S, D], one head."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        return self.out(F.scaled_dot_product_attention(query, key, value))


class FeedForward(nn.Sequential):
    """[B, S, D] to [B, S, D], token by token."""

    def __init__(self, dim: int) -> None:
        super().__init__(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


class WanS2VAttentionBlock(nn.Module):
    """A small transformer block called as the official one is, ``block(x, e=...)``, with two modules in it.

    Args:
        dim: width of a token.
        overwrites: write the result into the tensor that it is called with, as some releases do.
    """

    def __init__(self, dim: int, overwrites: bool = False) -> None:
        super().__init__()
        self.self_attn, self.ffn = SelfAttention(dim), FeedForward(dim)
        self.overwrites = overwrites
        self.calls = 0

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        self.calls += 1
        if not self.overwrites:
            x = x.clone()
        x += 0.2 * self.self_attn(F.layer_norm(x, x.shape[-1:]) + e)
        x += 0.2 * self.ffn(F.layer_norm(x, x.shape[-1:]) + e)
        return x


class Video(nn.Module):
    """A video model in diffusers' manner: latents [B, 4, T, H, W], audio [B, 8] added after the blocks in ``sites``.

    What is added makes a new tensor, so that an anatomy that doesn't name the sites finds them only by watching.
    """

    def __init__(self, dim: int = 8, layers: int = 5, sites: tuple[int, ...] = (0, 2), seed: int = 0) -> None:
        super().__init__()
        with seeded(seed):
            self.embed, self.head = nn.Linear(4, dim), nn.Linear(dim, 4)
            self.blocks = nn.ModuleList(WanS2VAttentionBlock(dim) for _ in range(layers))
            self.audio = nn.ModuleDict({str(s): nn.Linear(8, dim) for s in sites})

    def forward(self, hidden_states: Tensor, timestep: Tensor, audio: Tensor | None = None) -> Tensor:
        tokens = self.embed(hidden_states.flatten(2).transpose(1, 2))
        e = (timestep.float() / 1000).reshape(-1, 1, 1).expand(-1, 1, tokens.shape[-1]).to(tokens)
        for index, block in enumerate(self.blocks):
            tokens = block(tokens, e)
            if audio is not None and str(index) in self.audio:
                tokens = tokens + self.audio[str(index)](audio[:, None])
        return self.head(tokens).transpose(1, 2).reshape(hidden_states.shape)
