"""A double of the official Wan2.2-S2V class, tiny and with random weights."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor, nn

from .toys import WanS2VAttentionBlock, seeded


class AudioInjector(nn.Module):
    """One audio module for each block in ``sites``, and which block each of them comes after."""

    def __init__(self, dim: int, sites: tuple[int, ...]) -> None:
        super().__init__()
        self.injected_block_id = {site: i for i, site in enumerate(sites)}
        self.injector = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in sites)


class UnknownS2V(nn.Module):
    """The structure of Wan2.2-S2V under a name that no anatomy knows.

    Lists of latents in and out, audio written in place into the video tokens only (after block 0, in between, and after
    the last block), reference and motion tokens behind them. ``injections`` lists after which blocks audio was written.
    """

    def __init__(
        self, dim: int = 16, layers: int = 7, sites: tuple[int, ...] = (0, 2, 4, 6), overwrites: bool = False
    ) -> None:
        super().__init__()
        self.dim, self.patch_size = dim, (1, 2, 2)
        with seeded(0):
            self.patch_embedding = nn.Conv3d(4, dim, self.patch_size, self.patch_size)
            self.blocks = nn.ModuleList(WanS2VAttentionBlock(dim, overwrites) for _ in range(layers))
            self.audio_injector = AudioInjector(dim, sites)
            self.head = nn.Linear(dim, 16)
        self.injections: list[int] = []

    def forward(self, x, t, context, seq_len=None, audio_input=None, ref_latents=None, motion_latents=None):
        grid = [u.shape[1:] for u in x]
        tokens = torch.stack([self.patch_embedding(u[None])[0].flatten(1).T for u in x])
        self.original_seq_len = tokens.shape[1]
        extra = [
            self.patch_embedding(torch.stack(list(r))).flatten(2).transpose(1, 2)
            for r in (ref_latents, motion_latents)
            if r
        ]
        tokens = torch.cat([tokens, *extra], dim=1)
        e = (
            torch.outer(t.float() / 1000, torch.linspace(-1, 1, self.dim))[:, None]
            + torch.stack(list(context)).mean(1)[:, None]
        )
        for index, block in enumerate(self.blocks):
            tokens = block(tokens, e=e.to(tokens.dtype))
            tokens = self.after_transformer_block(index, tokens, audio_input)
        video = self.head(tokens[:, : self.original_seq_len])
        return [self._unpatch(v, size) for v, size in zip(video, grid, strict=True)]

    def after_transformer_block(self, index: int, tokens: Tensor, audio: Tensor | None) -> Tensor:
        if audio is not None and index in self.audio_injector.injected_block_id:
            self.injections.append(index)
            module = self.audio_injector.injector[self.audio_injector.injected_block_id[index]]
            video = tokens[:, : self.original_seq_len]
            heard = module(torch.cat([video, audio[:, None].expand_as(video)], dim=-1)).tanh()
            tokens[:, : self.original_seq_len] = video + heard
        return tokens

    @staticmethod
    def _unpatch(video: Tensor, size: torch.Size) -> Tensor:
        t, h, w = size
        return video.reshape(t, h // 2, w // 2, 4, 2, 2).permute(3, 0, 1, 4, 2, 5).reshape(4, t, h, w)


class WanModel_S2V(UnknownS2V):
    """The same under the official name, by which its anatomy is known."""


def s2v_inputs(seed: int = 0, batch: int = 1, frames: int = 2, motion: bool = True) -> SimpleNamespace:
    """Inputs of ``WanModel_S2V``: lists of latents [4, T, 4, 4], audio [B, dim], reference and motion latents."""
    random = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    return SimpleNamespace(
        x=[noise(4, frames, 4, 4) for _ in range(batch)],
        context=[noise(3, 16) * 0.2 for _ in range(batch)],
        audio_input=noise(batch, 16),
        ref_latents=[noise(4, 1, 4, 4) for _ in range(batch)],
        motion_latents=[noise(4, 1, 4, 4) for _ in range(batch)] if motion else None,
    )
