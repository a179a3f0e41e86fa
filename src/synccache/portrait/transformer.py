"""The built-in audio-driven portrait transformer: a small video DiT with Wan2.2-S2V's anatomy.

Diffusers' ``WanTransformerBlock``s, with audio cross-attention modules *between* them: after block 0, after every
second block, and after the last one. Each video token also sees the reference portrait's patch at its own place; the
whole portrait stands where a text-to-video model has its prompt. The network predicts the clean clip as *the
portrait, moved, + change* and returns the flow-matching velocity that this implies.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..errors import InputError
from .drawing import MOVE_SCALE, OverlapHead, drawn

SCHEMA = "synccache.portrait/2"


@dataclass(frozen=True)
class PortraitConfig:
    """Sizes of a ``PortraitTransformer``; stored in the weights file's header."""

    image_size: int = 128
    patch_size: int = 16
    overlap: int = 4
    dim: int = 128
    ffn_dim: int = 384
    heads: int = 4
    layers: int = 17
    inject_after: tuple[int, ...] = (0, 2, 4, 6, 8, 10, 12, 14, 16)
    audio_tokens: int = 5
    audio_dim: int = 64
    audio_inner: int = 64
    frames: int = 12
    motion_frames: int = 2


def timestep_embedding(timestep: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding of ``timestep`` [B] (0 to 1000) as [B, dim], float32."""
    half = dim // 2
    freqs = torch.exp(-math.log(10000.0) * torch.arange(half, device=timestep.device, dtype=torch.float32) / half)
    angles = timestep.float()[:, None] * freqs
    return torch.cat([angles.cos(), angles.sin()], dim=1)


@lru_cache(maxsize=16)
def rotary_tables(frames: int, motion: bool, grid: int, head_dim: int, theta: float = 100.0) -> tuple[Tensor, Tensor]:
    """Cosine and sine tables [1, N, 1, head_dim], pairwise interleaved, of the tokens' places in (t, h, w).

    The motion tokens, where there are any, come last and stand at t = -1.
    """
    times = torch.tensor([*range(frames), *([-1] if motion else [])])
    positions = torch.cartesian_prod(times, torch.arange(grid), torch.arange(grid))
    pairs = head_dim // 2
    per_axis = (pairs - 2 * (pairs // 3), pairs // 3, pairs // 3)
    angles = []
    for axis, count in enumerate(per_axis):
        freqs = theta ** (-torch.arange(count, dtype=torch.float64) / count)
        angles.append(positions[:, axis, None].double() * freqs)
    table = torch.cat(angles, dim=1).repeat_interleave(2, dim=1)
    return table.cos().float()[None, :, None], table.sin().float()[None, :, None]


class AudioModule(nn.Module):
    """Cross-attention of each frame's video tokens onto that frame's audio tokens; single-head, as in the big models.

    Args of ``forward``:
        tokens: [B, T*n, D] video tokens, frame by frame.
        audio: [B, T, A, D] audio tokens of each frame.

    Returns [B, T*n, D], to be added to the video tokens.
    """

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, inner)
        self.to_kv = nn.Linear(dim, 2 * inner)
        self.to_out = nn.Linear(inner, dim)

    def forward(self, tokens: Tensor, audio: Tensor) -> Tensor:
        batch, frames = audio.shape[:2]
        query = self.to_q(self.norm(tokens)).reshape(batch * frames, 1, -1, self.to_q.out_features)
        key, value = self.to_kv(audio).flatten(0, 1)[:, None].chunk(2, dim=-1)
        out = F.scaled_dot_product_attention(query, key, value)
        return self.to_out(out.reshape(batch, tokens.shape[1], -1))


class PortraitTransformer(nn.Module):
    """Velocity of a portrait clip under rectified flow, ``x_t = (1 - t) x_0 + t noise``.

    Tokens: ``T*h*w`` video tokens, then ``h*w`` motion tokens where the clip continues an earlier one.
    """

    def __init__(self, config: PortraitConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or PortraitConfig()
        dim, patch = config.dim, config.patch_size
        self.patch_size = patch
        self.grid = config.image_size // patch
        self.inject_after = tuple(config.inject_after)
        self.patch_embed = nn.Conv2d(3, dim, patch, patch)
        self.reference_embed = nn.Conv2d(3, dim, patch, patch)
        self.context_embed = nn.Conv2d(3, dim, patch, patch)
        self.motion_embed = nn.Conv2d(3 * config.motion_frames, dim, patch, patch)
        self.position = nn.Parameter(torch.randn(1, self.grid**2, dim) * 0.02)
        self.time_embed = nn.Sequential(nn.Linear(256, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.time_proj = nn.Linear(dim, 6 * dim)
        # One more input than there are features: it is 1 where audio is given and 0 in the unconditional branch,
        # so that silence and "no audio" are different things.
        self.audio_embed = nn.Sequential(
            nn.Linear(config.audio_dim + 1, 2 * dim), nn.SiLU(), nn.Linear(2 * dim, dim), nn.LayerNorm(dim)
        )
        self.audio_position = nn.Parameter(torch.randn(1, 1, config.audio_tokens, dim) * 0.5)
        self.blocks = nn.ModuleList(
            WanTransformerBlock(dim, config.ffn_dim, config.heads) for _ in range(config.layers)
        )
        self.audio_modules = nn.ModuleDict({str(i): AudioModule(dim, config.audio_inner) for i in self.inject_after})
        self.norm_out = nn.LayerNorm(dim, elementwise_affine=False)
        self.modulation_out = nn.Parameter(torch.randn(1, 2, dim) / dim**0.5)
        self.change_out = OverlapHead(dim, 3, patch, config.overlap, std=0.002)
        self.move_out = OverlapHead(dim, 4, patch // MOVE_SCALE, max(1, config.overlap // MOVE_SCALE), std=0.0)

    @contextmanager
    def cache_context(self, name: str, **fields: Any) -> Iterator[None]:
        """Inside, calls are those of the guidance branch ``name``, as a sampling loop tells whoever listens.

        Args:
            fields: ``step_index``, ``num_inference_steps``, and ``run``, another one for each clip.
        """
        yield

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        audio: Tensor,
        reference: Tensor,
        motion: Tensor | None = None,
    ) -> Tensor:
        """Predict the velocity.

        Args:
            hidden_states: [B, 3, T, H, W] noisy clip, pixels in -1 to 1.
            timestep: [B], 0 (clean) to 1000 (noise).
            audio: [B, T, A, F+1] audio features of each frame; the last one is 1, all are 0 when unconditional.
            reference: [B, 3, H, W] portrait, -1 to 1.
            motion: [B, 3*M, H, W] last M frames of the clip before, oldest first; None for a first clip.

        Returns [B, 3, T, H, W].
        """
        batch, _, frames, _, _ = hidden_states.shape
        video_tokens = frames * self.grid**2
        pixels = hidden_states.transpose(1, 2).flatten(0, 1)

        def tokens_of(image: Tensor) -> Tensor:
            return image.flatten(2).transpose(1, 2)

        local = tokens_of(self.reference_embed(reference)) + self.position
        tokens = tokens_of(self.patch_embed(pixels)).unflatten(0, (batch, frames)) + local[:, None]
        tokens = tokens.flatten(1, 2)
        if motion is not None:
            tokens = torch.cat([tokens, tokens_of(self.motion_embed(motion)) + local], dim=1)
        context = tokens_of(self.context_embed(reference)) + self.position
        time = self.time_embed(timestep_embedding(timestep, 256).to(tokens.dtype))
        modulation = self.time_proj(F.silu(time)).unflatten(1, (6, -1))
        tables = rotary_tables(frames, motion is not None, self.grid, self.config.dim // self.config.heads)
        rotary = tables[0].to(tokens), tables[1].to(tokens)
        voice = self.audio_embed(audio) + self.audio_position

        for index, block in enumerate(self.blocks):
            tokens = block(tokens, context, modulation, rotary)
            if index in self.inject_after:
                tokens = self._inject(index, tokens, video_tokens, voice)

        shift, scale = (self.modulation_out + time[:, None]).chunk(2, dim=1)
        tokens = self.norm_out(tokens[:, :video_tokens]) * (1 + scale) + shift
        tokens = tokens.reshape(batch * frames, self.grid**2, -1)
        move = self.move_out(tokens).unflatten(0, (batch, frames))
        clean = drawn(reference, move, self.change_out(tokens))
        clean = clean.unflatten(0, (batch, frames)).transpose(1, 2)
        sigma = (timestep.to(clean.dtype) / 1000).clamp_min(1e-3).reshape(-1, 1, 1, 1, 1)
        return (hidden_states - clean) / sigma

    def _inject(self, index: int, tokens: Tensor, video_tokens: int, voice: Tensor) -> Tensor:
        video = tokens[:, :video_tokens]
        heard = self.audio_modules[str(index)](video, voice)
        if torch.is_grad_enabled():
            return torch.cat([video + heard, tokens[:, video_tokens:]], dim=1)
        video += heard
        return tokens

    def save(self, path: str | Path, *, half: bool = True, metadata: dict[str, str] | None = None) -> None:
        """Write weights (fp16 by default) and config to ``path`` as safetensors."""
        state = {k: (v.half() if half else v.float()).contiguous() for k, v in self.state_dict().items()}
        header = {"schema": SCHEMA, "config": json.dumps(asdict(self.config)), **(metadata or {})}
        Path(path).write_bytes(save(state, header))

    @classmethod
    def load(cls, path: str | Path) -> PortraitTransformer:
        """Read a model that ``save`` wrote, as float32 and in evaluation mode.

        Raises:
            InputError: the file is missing, is not safetensors, or is not a portrait model of this version.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"No portrait model at {path}. Give the path of a .safetensors file from portrait-train.")
        try:
            with safe_open(str(path), framework="pt") as file:
                header = file.metadata() or {}
                state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
        except Exception as error:
            raise InputError(f"{path} is not a readable safetensors file ({error}). Train it anew.") from None
        if header.get("schema") != SCHEMA:
            found = header.get("schema", "no schema")
            raise InputError(f"{path} holds {found}, not {SCHEMA}. Use a model that portrait-train made.")
        try:
            config = json.loads(header["config"])
            config["inject_after"] = tuple(config["inject_after"])
            model = cls(PortraitConfig(**config))
            model.load_state_dict(state)
            damage = None if all(p.isfinite().all() for p in model.parameters()) else "weights that are not finite"
        except Exception as error:  # whatever a wrong size or a missing name leads to
            damage = f"{type(error).__name__}: {error}".splitlines()[0]
        if damage:
            raise InputError(f"{path} is a damaged portrait model ({damage}). Train it anew.")
        return model.eval()
