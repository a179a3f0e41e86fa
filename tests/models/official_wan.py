"""A structural double of Wan's own class at width 16: what is called how, as in ``wan/modules/model.py``; and of
InfiniteTalk's, which has the same name and an audio module in each block, as in ``wan/modules/multitalk_model.py``."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import Case, Noise, falling, seeded
from .official import DIM, CrossAttention, Whole, attend, places, turned, turns_of, unpatched, waves


class SelfAttention(nn.Module):
    def __init__(self, ranks: Whole) -> None:
        super().__init__()
        self.ranks = ranks
        self.q, self.k, self.v, self.o = (nn.Linear(DIM, DIM) for _ in range(4))

    def forward(self, x: Tensor, seq_lens: Tensor, grid_sizes: Tensor, freqs: Tensor) -> Tensor:
        key, value = (self.ranks.gather(part) for part in (turned(self.k(x), freqs), self.v(x)))
        return self.o(attend(turned(self.q(x), freqs), key, value))


class WanAttentionBlock(nn.Module):
    """Called ``block(x, e=[B, S, 6, D] float32, seq_lens=..., ...)``."""

    def __init__(self, ranks: Whole) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(DIM) for _ in range(3))
        self.self_attn, self.cross_attn = SelfAttention(ranks), CrossAttention()
        self.ffn = nn.Sequential(nn.Linear(DIM, 2 * DIM), nn.GELU(), nn.Linear(2 * DIM, DIM))
        self.modulation = nn.Parameter(torch.randn(1, 6, DIM) / DIM**0.5)

    def forward(self, x, e, seq_lens, grid_sizes, freqs, context, context_lens, **audio):
        assert e.dtype is torch.float32 and e.shape[2:] == (6, DIM)
        e = (self.modulation + e).unbind(2)
        x = x + e[2] * self.self_attn(self.norm1(x) * (1 + e[1]) + e[0], seq_lens, grid_sizes, freqs)
        x = x + self.cross_attn(self.norm3(x), context, context_lens)
        x = self.hear(x, **audio)
        return x + e[5] * self.ffn(self.norm2(x) * (1 + e[4]) + e[3])

    def hear(self, x: Tensor) -> Tensor:
        return x


class HearingBlock(WanAttentionBlock):
    """InfiniteTalk's: audio tokens [T, n, D] are attended to frame by frame."""

    def __init__(self, ranks: Whole) -> None:
        super().__init__(ranks)
        self.audio_cross_attn, self.norm_x = CrossAttention(), nn.LayerNorm(DIM)

    def hear(self, x: Tensor, audio_embedding: Tensor) -> Tensor:
        frames = self.norm_x(x).unflatten(1, (len(audio_embedding), -1))[0]
        return x + self.audio_cross_attn(frames, audio_embedding, None).flatten(0, 1)[None]


class WanModel(nn.Module):
    """Lists of [4, T, h, w] in and out."""

    block: type[WanAttentionBlock] = WanAttentionBlock

    def __init__(self, layers: int = 5, ranks: Whole | None = None) -> None:
        super().__init__()
        self.dim, self.patch_size, self.ranks = DIM, (1, 2, 2), ranks or Whole()
        self.patch_embedding = nn.Conv3d(4, DIM, (1, 2, 2), (1, 2, 2))
        self.text_embedding, self.time_embedding = nn.Linear(12, DIM), nn.Sequential(nn.Linear(DIM, DIM), nn.SiLU())
        self.time_projection = nn.Linear(DIM, 6 * DIM)
        self.blocks = nn.ModuleList(self.block(self.ranks) for _ in range(layers))
        self.head = nn.Linear(DIM, 16)

    def forward(self, x, t, context, seq_len, y=None, **audio):
        patches = [self.patch_embedding(u[None]) for u in x]
        size = tuple(patches[0].shape[2:])
        tokens = torch.cat([p.flatten(2).transpose(1, 2) for p in patches])
        video = tokens.shape[1]
        tokens = F.pad(tokens, (0, 0, 0, seq_len - video))
        turns = F.pad(turns_of(places(size, 0)).real, (0, 0, 0, seq_len - video)) + 0j
        t = t[:, None].expand(-1, seq_len) if t.ndim == 1 else t
        time = self.time_embedding(waves(t.flatten(), DIM)).unflatten(0, (len(x), seq_len))
        e = self.time_projection(time).unflatten(2, (6, DIM)).float()
        share, e = self.ranks.share(tokens), self.ranks.share(e)
        arguments = {
            "e": e, "seq_lens": torch.full((len(x),), video), "grid_sizes": torch.tensor([size] * len(x)),
            "freqs": self.ranks.share(turns.expand(len(x), -1, -1)),
            "context": self.text_embedding(torch.stack(list(context))), "context_lens": None, **audio,
        }  # fmt: skip
        for block in self.blocks:
            share = block(share, **arguments)
        out = self.head(self.ranks.gather(share))[:, :video]
        return [unpatched(u[None], size)[0].float() for u in out]


def infinite_talk(layers: int = 5) -> nn.Module:
    """InfiniteTalk's class; it is called with ``audio`` [T, n, D] besides."""

    class WanModel_(WanModel):
        block = HearingBlock

        def __init__(self, layers: int) -> None:
            super().__init__(layers)
            self.audio_proj = nn.Linear(6, DIM)

        def forward(self, x, t, context, seq_len, clip_fea=None, y=None, audio=None, ref_target_masks=None):
            return super().forward(x, t, context, seq_len, audio_embedding=self.audio_proj(audio))

    WanModel_.__name__ = "WanModel"
    return seeded(lambda: WanModel_(layers))


def wan(layers: int = 5, ranks: Whole | None = None) -> nn.Module:
    return seeded(lambda: WanModel(layers, ranks))


def wan_inputs(seed: int = 0) -> dict[str, Any]:
    """Latents [4, 3, 8, 8]; 48 tokens, padded to 52."""
    noise = Noise(seed)
    return {"x": [noise(4, 3, 8, 8)], "context": [noise(5, 12)], "seq_len": 52}


def some_clean(step: int) -> Tensor:
    """Timesteps [1, 52] of image-to-video: the first frame's tokens are clean."""
    return torch.cat([torch.zeros(1, 16), falling(step).expand(1, 36)], dim=1)


CASES = tuple(
    Case(name, "wan-official", wan, wan_inputs, times, filled=5, timestep="t", output=lambda out: torch.stack(out))
    for name, times in (("wan official", falling), ("wan official, clean frame", some_clean))
)
