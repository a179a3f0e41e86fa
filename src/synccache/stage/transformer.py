"""The stage model's transformer: a small video DiT with Wan2.2-S2V's anatomy, and tasks told by clean tokens.

Diffusers' ``WanTransformerBlock``s with audio injectors between them. Every pair of frames has a noise level of its
own; what is given (frames to continue, a first frame, a picture of somebody, a clip to edit) are tokens at level 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.cache_utils import CacheMixin
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor, WanTransformerBlock
from torch import Tensor, nn

from ..errors import InputError
from ..portrait.hearing import FEATURES, TOKENS
from .layout import (
    FIRST,
    PAIR,
    PATCH,
    PLACE_FEATURES,
    REFERENCE,
    WIDE,
    Drawn,
    causal_mask,
    patches_of,
    place_features,
    rotary_tables,
)
from .scenes import STREAMS

ROLES = ("clip", "first", "reference", "source")


class CausalProcessor(WanAttnProcessor):
    """Wan's attention; a third table beside the rotary ones is the mask of who sees whom."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: Any = None,
    ) -> Tensor:
        if rotary_emb is not None and len(rotary_emb) == 3:
            rotary_emb, attention_mask = rotary_emb[:2], rotary_emb[2]
        return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb)


class AudioInjector(nn.Module):
    """Cross-attention of each frame's video tokens onto that frame's audio tokens, as Wan2.2-S2V has it.

    Several heads, RMS-normalised queries and keys; the norm before is shifted and scaled by the mean audio token.

    Args of ``forward``:
        tokens: [B, F*n, D] video tokens, frame by frame.
        audio: [B, F, A, D] audio tokens of each frame.

    Returns [B, F*n, D], to be added to the video tokens.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-5, elementwise_affine=False)
        self.adain = nn.Linear(dim, 2 * dim)
        own = dim // heads
        self.attn = WanAttention(dim, heads, own, cross_attention_dim_head=own, processor=WanAttnProcessor())

    def forward(self, tokens: Tensor, audio: Tensor) -> Tensor:
        batch, frames = audio.shape[:2]
        shift, scale = self.adain(F.silu(audio.mean(2))).chunk(2, dim=-1)
        video = self.norm(tokens).unflatten(1, (frames, -1)) * (1 + scale[:, :, None]) + shift[:, :, None]
        return self.attn(video.flatten(0, 1), audio.flatten(0, 1)).unflatten(0, (batch, frames)).flatten(1, 2)


class StageTransformer(ModelMixin, ConfigMixin, CacheMixin):  # type: ignore[misc]
    """Velocity of a clip under rectified flow, ``x_t = (1 - t) x_0 + t noise``.

    Tokens: ``F*h*w`` video tokens (F pairs of frames, patches of 4x4 pixels), then those of what is given.
    """

    @register_to_config
    def __init__(
        self,
        dim: int = 128,
        ffn_dim: int = 384,
        heads: int = 4,
        layers: int = 12,
        inject_after: Sequence[int] = (0, 1, 3, 4, 6, 7, 9, 11),
    ) -> None:
        super().__init__()
        self.patch_size = (PAIR, PATCH, PATCH)
        self.inject_after = tuple(inject_after)
        self.head_dim = dim // heads
        self.patch_embed = nn.Linear(3 * PAIR * WIDE * WIDE, dim)
        self.place_embed = nn.Linear(PLACE_FEATURES, dim)
        self.role_embed = nn.Embedding(len(ROLES), dim)
        self.time_embed = nn.Sequential(nn.Linear(256, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.time_proj = nn.Linear(dim, 6 * dim)
        self.text_embed = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.audio_embed = nn.Sequential(
            nn.Linear(PAIR * (FEATURES + 1), 2 * dim), nn.SiLU(), nn.Linear(2 * dim, dim), nn.LayerNorm(dim)
        )
        self.audio_position = nn.Parameter(torch.randn(STREAMS, TOKENS, dim) * 0.5)
        blocks = [WanTransformerBlock(dim, ffn_dim, heads, cross_attn_norm=True) for _ in range(layers)]
        for block in blocks:
            block.attn1.set_processor(CausalProcessor())  # type: ignore[arg-type]
        self.blocks = nn.ModuleList(blocks)
        self.injectors = nn.ModuleDict({str(i): AudioInjector(dim, heads) for i in self.inject_after})
        self.norm_out = nn.LayerNorm(dim, elementwise_affine=False)
        self.modulation_out = nn.Parameter(torch.randn(2, dim) / dim**0.5)
        self.draw = Drawn(dim)

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        audio: Tensor,
        first: Tensor | None = None,
        reference: Tensor | None = None,
        source: Tensor | None = None,
        causal: bool = False,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Predict the velocity.

        Args:
            hidden_states: [B, 3, T, H, W] noisy clip, pixels in -1 to 1; T even, H and W multiples of 4.
            timestep: 0 (clean) to 1000 (noise): [B], or [B, T/2], one for each pair of frames.
            encoder_hidden_states: [B, L, D] the caption, from the text encoder.
            audio: [B, STREAMS, T, A, F+1] features of each sound track; the last one is 1, all are 0 where there is no
                sound.
            first: [B, 3, H, W] the clip's first frame.
            reference: [B, 3, H, W] picture of a talker, not aligned with the clip.
            source: [B, 3, T, H, W] the clip to be edited.
            causal: each pair of frames sees itself and earlier ones only.

        Returns [B, 3, T, H, W]: the velocity; 0 in frames at timestep 0.
        """
        clean = self.predict(hidden_states, timestep, encoder_hidden_states, audio, first, reference, source, causal)
        sigma = timestep.to(clean.dtype) / 1000
        if sigma.ndim == 2:
            sigma = sigma.repeat_interleave(PAIR, 1)[:, None, :, None, None]
        else:
            sigma = sigma[:, None, None, None, None]
        velocity = torch.where(sigma > 0, (hidden_states - clean) / sigma.clamp_min(1e-3), 0.0)
        return Transformer2DModelOutput(sample=velocity) if return_dict else (velocity,)

    def predict(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        audio: Tensor,
        first: Tensor | None = None,
        reference: Tensor | None = None,
        source: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Predict the clean clip [B, 3, T, H, W]; arguments as in ``forward``."""
        batch, _, length, height, width = hidden_states.shape
        if length % PAIR or height % PATCH or width % PATCH:
            raise InputError(
                f"A clip needs an even number of frames, and sides that are multiples of {PATCH}, but has "
                f"{length} frames of {height}x{width}."
            )
        frames, grid = length // PAIR, (height // PATCH, width // PATCH)
        per_frame = grid[0] * grid[1]
        parts = [("clip", hidden_states, [float(i) for i in range(frames)])]
        if first is not None:
            parts.append(("first", _still(first), [FIRST]))
        if reference is not None:
            parts.append(("reference", _still(reference), [REFERENCE]))
        if source is not None:
            parts.append(("source", source, [float(i) for i in range(frames)]))
        place = self.place_embed(place_features(*grid).to(hidden_states))
        tokens = torch.cat(
            [
                self.patch_embed(patches_of(video)) + (place + self.role_embed.weight[ROLES.index(role)])
                for role, video, _ in parts
            ],
            dim=1,
        ).flatten(1, 2)
        times = tuple(time for _, _, own in parts for time in own)
        rotary = self._tables(times, frames, grid, tokens, causal)

        given = len(times) - frames
        if given and timestep.ndim == 1:
            timestep = timestep[:, None].expand(-1, frames)
        if given:
            timestep = F.pad(timestep, (0, given))
        time = self.time_embed(get_timestep_embedding(timestep.flatten(), 256, flip_sin_to_cos=True).to(tokens.dtype))
        modulation = self.time_proj(F.silu(time)).unflatten(1, (6, -1))  # [B or B*frames, 6, D]
        if timestep.ndim == 2:
            modulation = modulation.unflatten(0, (batch, -1)).repeat_interleave(per_frame, 1)
        context = self.text_embed(encoder_hidden_states)
        voice = self._voice(audio)

        own = frames * per_frame
        for index, block in enumerate(self.blocks):
            tokens = block(tokens, context, modulation, rotary)
            if index in self.inject_after:
                heard = self.injectors[str(index)](tokens[:, :own], voice)
                tokens = tokens + F.pad(heard, (0, 0, 0, tokens.shape[1] - own))

        time = time.unflatten(0, (batch, -1))[:, :frames]  # [B, frames or 1, D]
        shift, scale = (self.modulation_out + time[:, :, None]).chunk(2, dim=2)
        tokens = self.norm_out(tokens[:, :own].float()).unflatten(1, (frames, -1)) * (1 + scale.float()) + shift.float()
        with torch.autocast(tokens.device.type, enabled=False):
            return self.draw(tokens.to(self.draw.weight.dtype), (height, width))

    def _voice(self, audio: Tensor) -> Tensor:
        """Audio tokens [B, F, STREAMS * A, D] of each pair of frames."""
        pairs = audio.unflatten(2, (-1, PAIR)).permute(0, 2, 1, 4, 3, 5).flatten(4)  # [B, F, S, A, 2 * features]
        return (self.audio_embed(pairs) + self.audio_position).flatten(2, 3)

    def _tables(
        self, times: tuple[float, ...], clip: int, grid: tuple[int, int], like: Tensor, causal: bool
    ) -> tuple[Tensor, ...]:
        cos, sin = rotary_tables(times, *grid, self.head_dim)
        tables = cos.to(like), sin.to(like)
        return (*tables, causal_mask(times, clip, grid[0] * grid[1]).to(like.device)) if causal else tables


def _still(picture: Tensor) -> Tensor:
    """A picture [B, 3, H, W] as a pair of frames."""
    return picture[:, :, None].expand(-1, -1, PAIR, -1, -1)
