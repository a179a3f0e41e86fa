"""Wan2.2-S2V's transformer in outline: 40 blocks, audio written into the video tokens in place after twelve of them.

Facts from the release (github.com/Wan-Video/Wan2.2): width 5120, 40 heads, feed-forward 13824; video tokens, then the
reference's, then the motion tokens of a later clip (frames packed at 1x, 2x, 4x); two modulations in a sequence, the
video's and that of timestep 0; audio of five tokens a latent frame through AdaIN and cross-attention.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .parts import TimeEmbedding, attend, heads_of, latent_of, patches_of, places_of, rotary, rotate

SITES = (0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39)
AUDIO_TOKENS = 5


class Attention(nn.Module):
    """Attention of [B, S, D] on itself (with rotary positions) or on ``context`` [B, L, D] (without)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k = nn.RMSNorm(dim, eps=1e-6), nn.RMSNorm(dim, eps=1e-6)

    def forward(self, x: Tensor, context: Tensor | None = None, turns: tuple[Tensor, Tensor] | None = None) -> Tensor:
        source = x if context is None else context
        query, key = heads_of(self.norm_q(self.q(x)), self.heads), heads_of(self.norm_k(self.k(source)), self.heads)
        if turns is not None:
            query, key = rotate(query, *turns), rotate(key, *turns)
        return self.o(attend(query, key, heads_of(self.v(source), self.heads)))


class WanS2VAttentionBlock(nn.Module):
    """Self-attention, text attention, feed-forward; modulated apart before and after ``e``'s boundary.

    Args of ``forward``:
        x: [B, S, D] tokens.
        e: (modulation [B, 6, 2, D] of the video and of all other tokens, number of video tokens).
        freqs: cosine and sine [S, D / heads / 2].
        context: [B, L, D] text.
    """

    def __init__(self, dim: int, ffn: int, heads: int) -> None:
        super().__init__()
        self.self_attn, self.cross_attn = Attention(dim, heads), Attention(dim, heads)
        self.norm3 = nn.LayerNorm(dim, eps=1e-6)
        self.ffn = nn.Sequential(nn.Linear(dim, ffn), nn.GELU(approximate="tanh"), nn.Linear(ffn, dim))
        self.modulation = nn.Parameter(torch.randn(1, 6, 1, dim) / dim**0.5)

    def forward(self, x: Tensor, e: tuple[Tensor, int], freqs: tuple[Tensor, Tensor], context: Tensor) -> Tensor:
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = (e[0] + self.modulation).unbind(1)
        x = x + _apart(self.self_attn(_modulated(x, shift_a, scale_a, e[1]), turns=freqs), gate_a, e[1])
        x = x + self.cross_attn(self.norm3(x), context)
        return x + _apart(self.ffn(_modulated(x, shift_f, scale_f, e[1])), gate_f, e[1])


def _apart(x: Tensor, factor: Tensor, video: int) -> Tensor:
    """``x`` [B, S, D] times ``factor`` [B, 2, D]: the first row for the ``video`` first tokens."""
    return torch.cat([x[:, :video] * factor[:, :1], x[:, video:] * factor[:, 1:]], dim=1)


def _modulated(x: Tensor, shift: Tensor, scale: Tensor, video: int) -> Tensor:
    x = _apart(F.layer_norm(x, x.shape[-1:], eps=1e-6), 1 + scale, video)
    x[:, :video] += shift[:, :1]
    x[:, video:] += shift[:, 1:]
    return x


class AdaIN(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 2 * dim)

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        shift, scale = self.linear(F.silu(temb))[:, None].chunk(2, dim=-1)
        return F.layer_norm(x, x.shape[-1:], eps=1e-5) * (1 + scale) + shift


class AudioInjector(nn.Module):
    def __init__(self, dim: int, heads: int, sites: tuple[int, ...]) -> None:
        super().__init__()
        self.injected_block_id = {site: i for i, site in enumerate(sites)}
        self.injector = nn.ModuleList(Attention(dim, heads) for _ in sites)
        self.injector_adain_layers = nn.ModuleList(AdaIN(dim) for _ in sites)


class WanModel_S2V(nn.Module):
    """Predicts the velocity of latents.

    Args of ``forward``:
        x: list of B latents [16, T, h, w].
        t: [B] timesteps, 0 to 1000.
        context: list of B texts [L, 4096].
        ref_latents: list of B latents [16, 1, h, w].
        motion_latents: list of B latents [16, 19, h, w]; None on a first clip.
        audio_input: [B, T, 5, 1024] audio features of each latent frame.

    Returns a list of B latents [16, T, h, w].
    """

    def __init__(
        self, dim: int = 5120, ffn_dim: int = 13824, num_heads: int = 40, num_layers: int = 40,
        inject_layers: tuple[int, ...] = SITES, text_dim: int = 4096, audio_dim: int = 1024,
    ) -> None:  # fmt: skip
        super().__init__()
        self.dim, self.num_heads, self.patch_size = dim, num_heads, (1, 2, 2)
        self.patch_embedding = nn.Conv3d(16, dim, self.patch_size, self.patch_size)
        self.frame_packer = nn.ModuleList(nn.Conv3d(16, dim, n, n) for n in ((1, 2, 2), (2, 4, 4), (4, 8, 8)))
        self.text_embedding = nn.Sequential(nn.Linear(text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim))
        self.time_embedding = TimeEmbedding(dim)
        self.time_projection = nn.Linear(dim, 6 * dim)
        self.trainable_cond_mask = nn.Embedding(3, dim)
        self.casual_audio_encoder = nn.Sequential(nn.Linear(audio_dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.blocks = nn.ModuleList(WanS2VAttentionBlock(dim, ffn_dim, num_heads) for _ in range(num_layers))
        self.audio_injector = AudioInjector(dim, num_heads, tuple(inject_layers))
        self.head = nn.Linear(dim, 64)
        self.head_modulation = nn.Parameter(torch.randn(1, 2, dim) / dim**0.5)

    def forward(self, x, t, context, seq_len=None, ref_latents=None, motion_latents=None, audio_input=None):
        latent = torch.stack(list(x))
        grid = latent.shape[2], latent.shape[3] // 2, latent.shape[4] // 2
        parts = [patches_of(self.patch_embedding, latent), patches_of(self.patch_embedding, torch.stack(ref_latents))]
        places = [places_of(grid, 0, latent.device), places_of((1, *grid[1:]), 30, latent.device)]
        if motion_latents is not None:
            parts.append(self._packed(torch.stack(list(motion_latents))))
            places.append(_packed_places(grid, latent.device))
        video = parts[0].shape[1]
        tokens = torch.cat([p + self.trainable_cond_mask.weight[i] for i, p in enumerate(parts)], dim=1)
        third = 2 * (self.dim // self.num_heads // 6)
        turns = rotary(torch.cat(places), (self.dim // self.num_heads - 2 * third, third, third))
        time = self.time_embedding(torch.cat([t, t.new_zeros(1)]))
        every = self.time_projection(F.silu(time)).unflatten(1, (6, self.dim))
        e = torch.stack([every[:-1], every[-1:].expand_as(every[:-1])], dim=2), video
        text = self.text_embedding(torch.stack(list(context)))
        audio = self.casual_audio_encoder(audio_input)
        for index, block in enumerate(self.blocks):
            tokens = block(tokens, e=e, freqs=turns, context=text)
            tokens = self.after_transformer_block(index, tokens, audio, video)
        shift, scale = (self.head_modulation + time[:-1, None]).chunk(2, dim=1)
        out = F.layer_norm(tokens[:, :video], tokens.shape[-1:], eps=1e-6) * (1 + scale) + shift
        return list(latent_of(self.head(out), grid, 16))

    def after_transformer_block(self, index: int, tokens: Tensor, audio: Tensor, video: int) -> Tensor:
        """Write what each frame's video tokens hear (``audio`` [B, T, 5, D]) into them, in place."""
        if index in self.audio_injector.injected_block_id:
            number = self.audio_injector.injected_block_id[index]
            frames = tokens[:, :video].unflatten(1, (audio.shape[1], -1)).flatten(0, 1)
            heard = audio.flatten(0, 1)
            adapted = self.audio_injector.injector_adain_layers[number](frames, heard[:, 0])
            added = self.audio_injector.injector[number](adapted, heard)
            tokens[:, :video] += added.unflatten(0, audio.shape[:2]).flatten(1, 2)
        return tokens

    def _packed(self, motion: Tensor) -> Tensor:
        """Tokens of 19 latent frames: the newest, the two before at half, the oldest 16 at a quarter of the size."""
        near, middle, far = motion[:, :, 18:], motion[:, :, 16:18], motion[:, :, :16]
        return torch.cat([patches_of(p, m) for p, m in zip(self.frame_packer, (near, middle, far), strict=True)], dim=1)


def _packed_places(grid: tuple[int, int, int], device: torch.device) -> Tensor:
    _, h, w = grid
    near = places_of((1, h, w), -1, device)
    middle = places_of((1, h // 2, w // 2), -3, device) * torch.tensor([1, 2, 2], device=device)
    far = places_of((4, h // 4, w // 4), 0, device) * torch.tensor([5, 4, 4], device=device)
    return torch.cat([near, middle, far - torch.tensor([19, 0, 0], device=device)])
