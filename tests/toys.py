"""Toy models whose arithmetic separates the engine's paths, and which have the structure of the real ones."""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synccache.engine.types import Watch
from synccache.gates import Listed


class Watching(Listed):
    """Computes the steps on a list, and has the probe kept all the same."""

    watches = {"probe": Watch(before=True)}  # noqa: RUF012


class AddBlock(nn.Module):
    """Adds ``weight * level``: small whole numbers, so every sum is exact."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(float(weight)))
        self.calls = 0

    def forward(self, hidden_states: Tensor, level: Tensor) -> Tensor:
        self.calls += 1
        return hidden_states + self.weight * level


class AddModel(nn.Module):
    """Blocks that add 1, 2 and 3 times ``level``: 20 becomes 44 at level 4; with a residual of level 3.5 it is 41."""

    def __init__(self, weights: tuple[float, ...] = (1, 2, 3)) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(AddBlock(w) for w in weights)

    def forward(self, hidden_states: Tensor, timestep: Tensor, level: Tensor) -> Tensor:
        for block in self.blocks:
            hidden_states = block(hidden_states, level)
        return hidden_states


class SelfAttention(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        return self.out(F.scaled_dot_product_attention(query, key, value))


class FeedForward(nn.Sequential):
    def __init__(self, dim: int) -> None:
        super().__init__(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


class WanS2VAttentionBlock(nn.Module):
    """A small transformer block called as the official one is, ``block(x, e=...)``, with two modules in it."""

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


class AudioInjector(nn.Module):
    def __init__(self, dim: int, sites: tuple[int, ...]) -> None:
        super().__init__()
        self.injected_block_id = {site: i for i, site in enumerate(sites)}
        self.injector = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in sites)


class UnknownS2V(nn.Module):
    """A structural double of the official Wan2.2-S2V class: lists in, audio written in place into the video tokens
    only (after block 0, in between, and after the last block), reference and motion tokens behind them."""

    def __init__(self, dim: int = 16, layers: int = 7, sites: tuple[int, ...] = (0, 2, 4, 6), overwrites: bool = False):
        super().__init__()
        torch.manual_seed(0)
        self.dim, self.patch_size = dim, (1, 2, 2)
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

    def after_transformer_block(self, index: int, tokens: Tensor, audio: Tensor) -> Tensor:
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


class DoubleBlock(nn.Module):
    """Two streams in, two out, text first, as FLUX has it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.calls = 0

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor, temb: Tensor):
        self.calls += 1
        mixed = encoder_hidden_states.mean(1, keepdim=True)
        image = hidden_states + (self.image(hidden_states) + mixed + temb[:, None]).tanh()
        text = encoder_hidden_states + (self.text(encoder_hidden_states) + hidden_states.mean(1, keepdim=True)).tanh()
        return text, image


class SingleBlock(nn.Module):
    """One concatenated stream."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mix = nn.Linear(dim, dim)
        self.calls = 0

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor | None, temb: Tensor) -> Tensor:
        self.calls += 1
        return hidden_states + (self.mix(hidden_states) + temb[:, None]).tanh()


class TwoStream(nn.Module):
    """Double blocks, a concatenation, then single blocks; gives the image's tokens, or all."""

    def __init__(self, dim: int = 8, text_too: bool = False) -> None:
        super().__init__()
        self.text_too = text_too
        torch.manual_seed(0)
        self.transformer_blocks = nn.ModuleList(DoubleBlock(dim) for _ in range(4))
        self.single_transformer_blocks = nn.ModuleList(SingleBlock(dim) for _ in range(3))

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor, timestep: Tensor) -> Tensor:
        temb = (timestep.float() / 1000)[:, None].expand(-1, hidden_states.shape[-1]).to(hidden_states)
        text, image = encoder_hidden_states, hidden_states
        for block in self.transformer_blocks:
            text, image = block(hidden_states=image, encoder_hidden_states=text, temb=temb)
        joint = torch.cat([text, image], dim=1)
        for block in self.single_transformer_blocks:
            joint = block(joint, None, temb)
        return joint if self.text_too else joint[:, text.shape[1] :]


class Video(nn.Module):
    """A small model of video latents [B, C, T, H, W] in diffusers' manner, with between-block injection of ``audio``
    into a new tensor, found only by watching."""

    def __init__(self, dim: int = 8, layers: int = 5, sites: tuple[int, ...] = (0, 2), seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
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


class EulerScheduler:
    """Rectified-flow Euler, with diffusers' names."""

    def __init__(self) -> None:
        self.set_timesteps(10)

    def set_timesteps(self, num_inference_steps: int, device=None, sigmas=None) -> None:
        sigmas = (
            torch.linspace(1, 1 / num_inference_steps, num_inference_steps) if sigmas is None else torch.tensor(sigmas)
        )
        self.sigmas = torch.cat([sigmas, torch.zeros(1)])
        self.timesteps = self.sigmas[:-1] * 1000

    def step(self, velocity: Tensor, index: int, sample: Tensor) -> Tensor:
        return sample + (self.sigmas[index + 1] - self.sigmas[index]) * velocity


class Pipeline:
    """Classifier-free guidance in two sequential calls or one batch; two experts if ``transformer_2`` is given."""

    def __init__(self, transformer: nn.Module, transformer_2: nn.Module | None = None, batched: bool = False) -> None:
        self.transformer, self.transformer_2, self.batched = transformer, transformer_2, batched
        self.scheduler = EulerScheduler()

    def __call__(
        self, steps: int = 20, seed: int = 0, shape=(1, 4, 2, 4, 4), guidance: float = 2.0, on_step=None
    ) -> Tensor:
        random = torch.Generator().manual_seed(seed)
        x = torch.randn(shape, generator=random)
        audio = torch.randn(shape[0], 8, generator=random)
        self.scheduler.set_timesteps(steps)
        with torch.no_grad():
            for index, t in enumerate(self.scheduler.timesteps):
                half = self.transformer_2 is not None and index >= len(self.scheduler.timesteps) // 2
                model = self.transformer_2 if half else self.transformer
                time = t.expand(shape[0])
                if self.batched:
                    both = torch.cat([x, x])
                    v = model(both, t.expand(2 * shape[0]), torch.cat([audio, torch.zeros_like(audio)]))
                    cond, uncond = v.chunk(2)
                else:
                    cond = model(x, time, audio)
                    uncond = model(x, time, torch.zeros_like(audio)) if guidance > 1 else cond
                x = self.scheduler.step(uncond + guidance * (cond - uncond), index, x)
                if on_step is not None:
                    on_step(index)
        return x


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


def distance(a: Tensor, b: Tensor) -> float:
    """Relative L2."""
    return float((a - b).norm() / b.norm()) if float(b.norm()) else math.inf
