"""A structural double of Wan2.2-S2V's official class, at width 16: what is called how, in which order, and what is
written where, as in ``wan/modules/s2v``. ``official_avatar`` has that of HunyuanVideo-Avatar, which shares some parts.

What the official class keeps on the model from call to call lies in ``kept``, so that its attributes stay the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import Case, Noise, falling, seeded

DIM, HEADS = 16, 2


def waves(t: Tensor, dim: int) -> Tensor:
    """[N] to [N, dim] sines and cosines."""
    angles = t.double()[:, None] * 10000 ** (-torch.arange(dim // 2).double() / (dim // 2))
    return torch.cat([angles.cos(), angles.sin()], dim=-1).float()


def attend(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
    """[B, S, D] in ``HEADS`` heads; ``allowed`` [B, S, S] or None."""
    query, key, value = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (query, key, value))
    allowed = None if allowed is None else allowed[:, None]
    return F.scaled_dot_product_attention(query, key, value, allowed).transpose(1, 2).flatten(2)


def turned(x: Tensor, turns: Tensor) -> Tensor:
    """``x`` [B, S, D] with its pairs of channels rotated by complex ``turns`` [B, S, D / 2]: one for every token."""
    assert turns.shape == (*x.shape[:2], x.shape[2] // 2)
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns).flatten(2).to(x.dtype)


def turns_of(places: Tensor) -> Tensor:
    """(t, h, w) places [S, 3] to complex rotations [1, S, D / 2]."""
    angles = places.double() @ torch.linspace(0.1, 1, 3 * DIM // 2).reshape(3, -1).double()
    return torch.polar(torch.ones_like(angles), angles)[None]


def places(size: tuple[int, int, int], start: int) -> Tensor:
    t, h, w = (torch.arange(n) for n in size)
    return torch.cartesian_prod(t + start, h, w).reshape(-1, 3)


class Whole:
    """One rank, and no sharing of tokens."""

    size, rank = 1, 0

    def gather(self, x: Tensor) -> Tensor:
        return x

    def share(self, x: Tensor) -> Tensor:
        return x


class Ulysses(Whole):
    """Ranks that share the tokens of one video; here each is a thread with a model of its own."""

    def __init__(self, size: int) -> None:
        self.size, self.barrier, self.parts = size, threading.Barrier(size, timeout=60), [None] * size
        self.of_thread = threading.local()

    @property
    def rank(self) -> int:
        return getattr(self.of_thread, "rank", 0)

    def gather(self, x: Tensor) -> Tensor:
        """All ranks' tokens, as a tensor of its own; with one rank ``x`` itself."""
        if self.size == 1:
            return x
        self.parts[self.rank] = x
        self.barrier.wait()
        whole = torch.cat(self.parts, dim=1)
        self.barrier.wait()
        return whole

    def share(self, x: Tensor) -> Tensor:
        """This rank's tokens: a view."""
        return torch.chunk(x, self.size, dim=1)[self.rank]


class CrossAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(DIM, DIM) for _ in range(4))

    def forward(self, x: Tensor, context: Tensor, context_lens: Tensor | None) -> Tensor:
        assert context_lens is None or (len(context_lens) == len(x) and int(context_lens.max()) == context.shape[1])
        return self.o(attend(self.q(x), self.k(context), self.v(context)))


class WanS2VAttentionBlock(nn.Module):
    """Called ``block(x, e=[modulation [B, 6, 2, D], tokens before the second segment], seq_lens=..., ...)``."""

    def __init__(self, ranks: Whole) -> None:
        super().__init__()
        self.ranks = ranks
        self.modulation = nn.Parameter(torch.randn(1, 6, DIM) / DIM**0.5)
        self.qkv, self.o, self.cross_attn = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM), CrossAttention()
        self.ffn = nn.Sequential(nn.Linear(DIM, 2 * DIM), nn.GELU(), nn.Linear(2 * DIM, DIM))

    def forward(self, x, e, seq_lens, grid_sizes, freqs, context, context_lens):
        assert isinstance(e, list) and e[0].shape == (len(x), 6, 2, DIM) and e[0].dtype is torch.float32
        assert len(seq_lens) == len(x) and len(grid_sizes[0]) == 3 and context_lens is None
        first = min(max(0, e[1].item()), x.shape[1])
        second = (torch.arange(x.shape[1], device=x.device) >= first).long()
        shift, scale, gate, shift_2, scale_2, gate_2 = (self.modulation[:, :, None] + e[0])[:, :, second].unbind(1)
        query, key, value = self.qkv(F.layer_norm(x, (DIM,)) * (1 + scale) + shift).chunk(3, dim=-1)
        query, key, value = turned(query, freqs), self.ranks.gather(turned(key, freqs)), self.ranks.gather(value)
        x = x + gate * self.o(attend(query, key, value))
        x = x + self.cross_attn(F.layer_norm(x, (DIM,)), context, context_lens)
        return x + gate_2 * self.ffn(F.layer_norm(x, (DIM,)) * (1 + scale_2) + shift_2)


class CausalAudioEncoder(nn.Module):
    """Audio [B, layers, C, columns] to global [B, t, 1, D] and local [B, t, 3, D], four columns a latent frame."""

    def __init__(self, layers: int, channels: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(1, layers, 1, 1))
        self.conv = nn.Conv1d(channels, 4 * DIM, 3, stride=4)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        mixed = F.pad((features * self.weights.sigmoid()).mean(1), (2, 0), mode="replicate")
        tokens = self.conv(mixed).unflatten(1, (4, DIM)).permute(0, 3, 1, 2)
        return tokens[:, :, :1], tokens[:, :, 1:]


class AdaLayerNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(DIM, 2 * DIM)

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        shift, scale = self.linear(F.silu(temb))[:, None].chunk(2, dim=-1)
        return F.layer_norm(x, (DIM,)) * (1 + scale) + shift


class AudioInjector(nn.Module):
    def __init__(self, sites: tuple[int, ...]) -> None:
        super().__init__()
        self.injected_block_id = {site: number for number, site in enumerate(sites)}
        self.injector = nn.ModuleList(CrossAttention() for _ in sites)
        self.injector_adain_layers = nn.ModuleList(AdaLayerNorm() for _ in sites)


class FramePackMotioner(nn.Module):
    """Motion [4, T, h, w], newest frame last, to n + n/4 + n/4 tokens: the newest, the two before, the 16 oldest."""

    def __init__(self) -> None:
        super().__init__()
        self.proj, self.proj_2x, self.proj_4x = (nn.Conv3d(4, DIM, k, k) for k in ((1, 2, 2), (2, 4, 4), (4, 8, 8)))

    def forward(self, motion: list[Tensor] | Tensor) -> tuple[Tensor, Tensor]:
        padded = torch.stack([F.pad(m, (0, 0, 0, 0, 19 - m.shape[1], 0)) for m in motion])
        old, middle, new = padded.split([16, 2, 1], dim=2)
        packed = [self.proj(new), self.proj_2x(middle), self.proj_4x(old)]
        where = [places(tuple(p.shape[2:]), start) for p, start in zip(packed, (-1, -3, -19), strict=True)]
        return torch.cat([p.flatten(2).transpose(1, 2) for p in packed], dim=1), turns_of(torch.cat(where))


class WanModel_S2V(nn.Module):
    """Lists of [4, T, h, w] in and out; tokens are video, reference, motion; audio is written in place into the video
    tokens after the blocks in ``sites``; with several ranks the tokens are gathered for that and shared out again."""

    def __init__(self, layers: int = 7, sites: tuple[int, ...] = (0, 2, 4, 6), ranks: Whole | None = None) -> None:
        super().__init__()
        self.dim, self.patch_size, self.ranks, self.kept = DIM, (1, 2, 2), ranks or Whole(), {}
        self.patch_embedding, self.cond_encoder = (nn.Conv3d(4, DIM, (1, 2, 2), (1, 2, 2)) for _ in range(2))
        self.text_embedding, self.time_embedding = nn.Linear(12, DIM), nn.Sequential(nn.Linear(DIM, DIM), nn.SiLU())
        self.time_projection = nn.Linear(DIM, 6 * DIM)
        self.blocks = nn.ModuleList(WanS2VAttentionBlock(self.ranks) for _ in range(layers))
        self.casual_audio_encoder, self.audio_injector = CausalAudioEncoder(3, 6), AudioInjector(sites)
        self.trainable_cond_mask, self.frame_packer = nn.Embedding(3, DIM), FramePackMotioner()
        self.head, self.head_modulation = nn.Linear(DIM, 16), nn.Parameter(torch.randn(1, 2, DIM))

    def forward(
        self, x, t, context, seq_len, ref_latents, motion_latents, cond_states, audio_input=None,
        motion_frames=[17, 5], add_last_motion=2, drop_motion_frames=False, *extra_args, **extra_kwargs,  # noqa: B006
    ):  # fmt: skip
        audio = torch.cat([audio_input[..., :1].repeat(1, 1, 1, motion_frames[0]), audio_input], dim=-1)
        self.kept["global"], self.kept["local"] = (a[:, motion_frames[1] :] for a in self.casual_audio_encoder(audio))
        video = [
            self.patch_embedding(u[None]) + self.cond_encoder(c[None]) for u, c in zip(x, cond_states, strict=True)
        ]
        size, reference = tuple(video[0].shape[2:]), [self.patch_embedding(r[None]) for r in ref_latents]
        tokens, extra = (torch.cat([p.flatten(2).transpose(1, 2) for p in parts]) for parts in (video, reference))
        motion, motion_turns = self.frame_packer(motion_latents)
        if drop_motion_frames:
            motion, motion_turns = motion[:, :0], motion_turns[:, :0]
        self.kept["original_seq_len"] = first = torch.tensor(tokens.shape[1])
        turns = [turns_of(torch.cat([places(size, 0), places((1, *size[1:]), 30)])), motion_turns]
        turns = torch.cat(turns, dim=1).expand(len(x), -1, -1)
        kind = torch.cat([torch.full((p.shape[1],), n) for n, p in enumerate((tokens, extra, motion))])
        tokens = torch.cat([tokens, extra, motion], dim=1) + self.trainable_cond_mask(kind)
        time = self.time_embedding(waves(torch.cat([t, t.new_zeros(1)]), DIM))
        e = self.time_projection(time).unflatten(1, (6, DIM))
        e = [torch.stack([e[:-1], e[-1:].expand(len(t), -1, -1)], dim=2).float(), first]
        grids = [torch.zeros(len(x), 3), *[torch.tensor([size] * len(x))] * 2]
        share = self.ranks.share(tokens)
        e[1] = first - self.ranks.rank * share.shape[1]
        arguments = {
            "e": e, "seq_lens": torch.full((len(x),), tokens.shape[1]), "grid_sizes": [grids, grids],
            "freqs": self.ranks.share(turns), "context": self.text_embedding(torch.stack(list(context))),
            "context_lens": None,
        }  # fmt: skip
        for index, block in enumerate(self.blocks):
            share = self.after_transformer_block(index, block(share, **arguments))
        out = self.ranks.gather(share)[:, :first]
        shift, scale = (self.head_modulation + time[:-1, None]).unbind(1)
        out = self.head(F.layer_norm(out, (DIM,)) * (1 + scale[:, None]) + shift[:, None])
        return [unpatched(u[None], size)[0].float() for u in out]

    def after_transformer_block(self, index: int, tokens: Tensor) -> Tensor:
        if index not in self.audio_injector.injected_block_id:
            return tokens
        number, local = self.audio_injector.injected_block_id[index], self.kept["local"]
        tokens, first = self.ranks.gather(tokens), self.kept["original_seq_len"]
        video = tokens[:, :first].clone().unflatten(1, (local.shape[1], -1)).flatten(0, 1)
        video = self.audio_injector.injector_adain_layers[number](video, temb=self.kept["global"].flatten(0, 1)[:, 0])
        lens = torch.full((len(video),), local.shape[2])
        heard = self.audio_injector.injector[number](x=video, context=local.flatten(0, 1), context_lens=lens)
        tokens[:, :first] = tokens[:, :first] + heard.unflatten(0, (len(tokens), -1)).flatten(1, 2)
        return self.ranks.share(tokens)


def unpatched(tokens: Tensor, size: tuple[int, int, int]) -> Tensor:
    """[B, V, 2 * 2 * 4] to [B, 4, T, h, w]."""
    t, h, w = size
    return tokens.reshape(-1, t, h, w, 2, 2, 4).permute(0, 6, 1, 2, 4, 3, 5).reshape(-1, 4, t, 2 * h, 2 * w)


def s2v(ranks: Whole | None = None) -> WanModel_S2V:
    return seeded(lambda: WanModel_S2V(ranks=ranks))


def s2v_inputs(seed: int = 0, frames: int = 3, batch: int = 1) -> dict[str, Any]:
    """Latents [4, frames, 8, 8] and four columns of audio for each frame, after 5 columns (2 frames) of motion."""
    noise = Noise(seed)
    return {
        "x": [noise(4, frames, 8, 8) for _ in range(batch)], "context": [noise(5, 12) for _ in range(batch)],
        "seq_len": frames * 16, "ref_latents": noise(batch, 4, 1, 8, 8), "motion_latents": noise(batch, 4, 19, 8, 8),
        "cond_states": noise(batch, 4, frames, 8, 8), "audio_input": noise(batch, 3, 6, 4 * frames),
        "motion_frames": [5, 2], "drop_motion_frames": False,
    }  # fmt: skip


def other_audio(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda inputs: {**inputs, name: inputs[name] * 0.5 + 1}


def case(name: str, build: Callable[[], nn.Module]) -> Case:
    live = ("casual_audio_encoder", "frame_packer", *(f"audio_injector.injector.{i}" for i in range(4)))
    return Case(
        name, "wan-s2v", build, s2v_inputs, falling, 7, timestep="t", live=live, changed=other_audio("audio_input")
    )


CASES = (case("wan-s2v", s2v), case("wan-s2v-ulysses", lambda: s2v(Ulysses(1))))
