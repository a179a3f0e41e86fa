"""HunyuanVideo and HunyuanVideo-1.5 at tiny configurations: width 16, latents of 3 frames, 4 x 6."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import HunyuanVideo15Transformer3DModel, HunyuanVideoTransformer3DModel
from torch import nn

from . import Case, Noise, falling, seeded

SMALL = {
    "in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 3,
    "num_refiner_layers": 1, "text_embed_dim": 12, "rope_axes_dim": (2, 2, 4),
}  # fmt: skip


def build(**given: Any) -> nn.Module:
    more = {"num_single_layers": 3, "patch_size": 2, "pooled_projection_dim": 8, "guidance_embeds": True}
    return seeded(lambda: HunyuanVideoTransformer3DModel(**{**SMALL, **more, **given}))


def build_15() -> nn.Module:
    more = {"patch_size": 1, "text_embed_2_dim": 8, "image_embed_dim": 8, "mlp_ratio": 2.0}
    return seeded(lambda: HunyuanVideo15Transformer3DModel(**SMALL, **more))


def inputs(seed: int) -> dict[str, Any]:
    """Six text tokens, the last two of them padding."""
    noise = Noise(seed)
    return {
        "hidden_states": noise(1, 4, 3, 4, 6), "encoder_hidden_states": noise(1, 6, 12),
        "encoder_attention_mask": torch.tensor([[1, 1, 1, 1, 0, 0]]), "pooled_projections": noise(1, 8),
        "guidance": torch.tensor([6000.0]), "return_dict": False,
    }  # fmt: skip


def inputs_15(seed: int) -> dict[str, Any]:
    noise = Noise(seed)
    return {
        "hidden_states": noise(1, 4, 3, 4, 6), "encoder_hidden_states": noise(1, 6, 12),
        "encoder_attention_mask": torch.tensor([[1, 1, 1, 1, 0, 0]]), "encoder_hidden_states_2": noise(1, 4, 8),
        "encoder_attention_mask_2": torch.tensor([[1, 1, 1, 0]]), "image_embeds": noise(1, 3, 8),
        "return_dict": False,
    }  # fmt: skip


CASES = (
    Case("hunyuan-video", "hunyuan-video", build, inputs, falling, filled=6),
    Case(
        "hunyuan-video-token-replace", "hunyuan-video", lambda: build(image_condition_type="token_replace"), inputs,
        falling, filled=6,
    ),
    Case("hunyuan-video-1.5", "hunyuan-video-1.5", build_15, inputs_15, falling, filled=3),
)  # fmt: skip
