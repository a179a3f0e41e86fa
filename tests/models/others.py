"""CogVideoX, Mochi, Cosmos (latents of 2 or 4 frames, 4 x 6) and the built-in models at tiny configurations."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import CogVideoXTransformer3DModel, CosmosTransformer3DModel, MochiTransformer3DModel
from torch import Tensor, nn

from synccache.portrait.transformer import PortraitConfig, PortraitTransformer
from synccache.stage.transformer import StageTransformer

from . import Case, Noise, falling, seeded

PORTRAIT = PortraitConfig(image_size=32, patch_size=8, dim=24, ffn_dim=32, layers=5, inject_after=(0, 2, 4))


def build_cogvideox(**given: Any) -> nn.Module:
    small = {
        "num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4, "out_channels": 4, "time_embed_dim": 8,
        "text_embed_dim": 12, "num_layers": 4, "sample_width": 6, "sample_height": 4, "sample_frames": 13,
        "patch_size": 2, "max_text_seq_length": 5,
    }  # fmt: skip
    return seeded(lambda: CogVideoXTransformer3DModel(**{**small, **given}))


def build_mochi() -> nn.Module:
    small = {
        "patch_size": 2, "num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 4, "in_channels": 4,
        "pooled_projection_dim": 12, "text_embed_dim": 16, "time_embed_dim": 8, "max_sequence_length": 5,
    }  # fmt: skip
    return seeded(lambda: MochiTransformer3DModel(**small))


def build_cosmos(**given: Any) -> nn.Module:
    small = {
        "in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 5,
        "mlp_ratio": 2.0, "text_embed_dim": 12, "adaln_lora_dim": 4, "max_size": (4, 8, 8),
        "concat_padding_mask": False,
    }  # fmt: skip
    return seeded(lambda: CosmosTransformer3DModel(**{**small, **given}))


def cogvideox(seed: int, frames: int = 2) -> dict[str, Any]:
    noise = Noise(seed)
    latent, prompt = noise(1, frames, 4, 4, 6), noise(1, 5, 12)
    return {"hidden_states": latent, "encoder_hidden_states": prompt, "return_dict": False}


def mochi(seed: int) -> dict[str, Any]:
    noise = Noise(seed)
    return {
        "hidden_states": noise(1, 4, 2, 4, 6), "encoder_hidden_states": noise(1, 5, 16),
        "encoder_attention_mask": torch.tensor([[True, True, True, True, False]]), "return_dict": False,
    }  # fmt: skip


def cosmos(seed: int) -> dict[str, Any]:
    """Without a padding mask, whose resizing needs torchvision."""
    noise = Noise(seed)
    latent, prompt = noise(1, 4, 2, 4, 6), noise(1, 5, 12)
    return {"hidden_states": latent, "encoder_hidden_states": prompt, "return_dict": False}


def portrait(seed: int) -> dict[str, Any]:
    """Two frames that follow an earlier clip."""
    noise, size, motion = Noise(seed), PORTRAIT.image_size, PORTRAIT.motion_frames
    return {
        "hidden_states": noise(1, 3, 2, size, size), "audio": voice(seed),
        "reference": noise(1, 3, size, size).clamp(-1, 1), "motion": noise(1, 3 * motion, size, size).clamp(-1, 1),
    }  # fmt: skip


def voice(seed: int) -> Tensor:
    return Noise(seed + 100)(1, 2, PORTRAIT.audio_tokens, PORTRAIT.audio_dim + 1)


def stage(seed: int) -> dict[str, Any]:
    """Four frames that edit a clip: a pair of frames at a time, each with ten audio tokens."""
    noise = Noise(seed)
    return {
        "hidden_states": noise(1, 3, 4, 16, 16), "encoder_hidden_states": noise(1, 20, 24), "audio": sounds(seed),
        "source": noise(1, 3, 4, 16, 16).clamp(-1, 1), "return_dict": False,
    }  # fmt: skip


def sounds(seed: int) -> Tensor:
    return Noise(seed + 100)(1, 2, 4, 5, 65)


def residuals(seed: int) -> list[Tensor]:
    """What a ControlNet adds in blocks 0, 2 and 4: three times [1, 12, 24]."""
    noise = Noise(seed)
    return [noise(1, 12, 24) for _ in range(3)]


def rising(step: int) -> Tensor:
    """Mochi's timesteps [1] go up."""
    return torch.tensor([10.0 + 30 * step])


CASES = (
    Case(
        "cogvideox", "cogvideox", lambda: build_cogvideox(sample_frames=5), cogvideox, falling, filled=4
    ),
    Case(
        "cogvideox-1.5", "cogvideox",
        lambda: build_cogvideox(patch_size_t=2, use_rotary_positional_embeddings=True, patch_bias=False),
        lambda seed: cogvideox(seed, frames=4), falling, filled=4,
    ),
    Case("mochi", "mochi", build_mochi, mochi, rising, filled=4),
    Case("cosmos", "cosmos", build_cosmos, cosmos, falling, filled=5),
    Case(
        "cosmos-controlnet", "cosmos", lambda: build_cosmos(controlnet_block_every_n=2),
        lambda seed: {**cosmos(seed), "block_controlnet_hidden_states": residuals(seed)}, falling, filled=5,
        changed=lambda inputs: {**inputs, "block_controlnet_hidden_states": residuals(7)},
    ),
    Case(
        "portrait", "portrait", lambda: seeded(lambda: PortraitTransformer(PORTRAIT)), portrait, falling, filled=5,
        output=lambda out: out, live=("audio_modules.0", "audio_modules.2", "audio_modules.4"),
        changed=lambda inputs: {**inputs, "audio": voice(7)},
    ),
    Case(
        "stage", "stage", lambda: seeded(lambda: StageTransformer(24, 32, 2, 5, (0, 2, 4))), stage, falling, filled=5,
        live=("injectors.0", "injectors.2", "injectors.4"), changed=lambda inputs: {**inputs, "audio": sounds(7)},
    ),
)  # fmt: skip
