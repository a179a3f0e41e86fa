"""Wan, VACE, Animate and SkyReels-V2 at tiny configurations: width 24, latents of 3 frames, 4 x 6."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    SkyReelsV2Transformer3DModel,
    WanAnimateTransformer3DModel,
    WanTransformer3DModel,
    WanVACETransformer3DModel,
)
from torch import Tensor, nn

from . import Case, Noise, falling, seeded

SMALL = {
    "num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4, "text_dim": 16,
    "freq_dim": 16, "ffn_dim": 32, "rope_max_seq_len": 32,
}  # fmt: skip
FACES = {str(size): 4 for size in (4, 8, 16)}


def build(layers: int = 5, **given: Any) -> nn.Module:
    return seeded(lambda: WanTransformer3DModel(**{**SMALL, "num_layers": layers, **given}))


def build_image() -> nn.Module:
    return build(in_channels=9, image_dim=16, added_kv_proj_dim=24)


def build_vace() -> nn.Module:
    more = {"num_layers": 5, "vace_layers": [0, 2, 3], "vace_in_channels": 6}
    return seeded(lambda: WanVACETransformer3DModel(**SMALL, **more))


def build_animate() -> nn.Module:
    more = {
        "num_layers": 6, "in_channels": 12, "latent_channels": 4, "image_dim": 16, "added_kv_proj_dim": 24,
        "motion_encoder_channel_sizes": FACES, "motion_encoder_size": 16, "motion_style_dim": 8, "motion_dim": 4,
        "motion_encoder_dim": 8, "face_encoder_hidden_dim": 16, "face_encoder_num_heads": 2,
        "inject_face_latents_blocks": 2,
    }  # fmt: skip
    return seeded(lambda: WanAnimateTransformer3DModel(**{**SMALL, **more}))


def build_skyreels() -> nn.Module:
    return seeded(lambda: SkyReelsV2Transformer3DModel(**SMALL, num_layers=4))


def text(seed: int) -> dict[str, Any]:
    noise = Noise(seed)
    return {"hidden_states": noise(1, 4, 3, 4, 6), "encoder_hidden_states": noise(1, 5, 16), "return_dict": False}


def image(seed: int) -> dict[str, Any]:
    """Latent, first frame and mask in one; text padded to 512 tokens, by which the model tells it from the image."""
    noise = Noise(seed)
    return {
        "hidden_states": noise(1, 9, 3, 4, 6), "encoder_hidden_states": noise(1, 512, 16),
        "encoder_hidden_states_image": noise(1, 7, 16), "return_dict": False,
    }  # fmt: skip


def vace(seed: int) -> dict[str, Any]:
    return {**text(seed), "control_hidden_states": Noise(seed + 100)(1, 6, 3, 4, 6)}


def animate(seed: int) -> dict[str, Any]:
    """Three latent frames, the first of them the reference; five frames of a 16 x 16 face."""
    noise = Noise(seed)
    return {
        **image(seed), "hidden_states": noise(1, 12, 3, 4, 6), "pose_hidden_states": noise(1, 4, 2, 4, 6),
        "face_pixel_values": noise(1, 3, 5, 16, 16).clamp(-1, 1),
    }  # fmt: skip


def frame_times(step: int) -> Tensor:
    """Diffusion forcing: a timestep for each frame [1, 3], the first one's always lower."""
    return torch.cat([falling(step) * 0.5, falling(step), falling(step)])[None]


CASES = (
    Case("wan-t2v", "wan", build, text, falling, filled=5),
    Case("wan-i2v", "wan", build_image, image, falling, filled=5),
    Case(
        "wan-vace", "wan-vace", build_vace, vace, falling, filled=5,
        live=("vace_blocks.0", "vace_blocks.1", "vace_blocks.2"),
        changed=lambda inputs: {**inputs, "control_hidden_states": Noise(7)(1, 6, 3, 4, 6)},
    ),
    Case(
        "wan-animate", "wan-animate", build_animate, animate, falling, filled=6,
        live=("motion_encoder", "face_encoder", "face_adapter.0", "face_adapter.1", "face_adapter.2"),
        changed=lambda inputs: {**inputs, "face_pixel_values": Noise(7)(1, 3, 5, 16, 16).clamp(-1, 1)},
    ),
    Case("skyreels-v2", "skyreels-v2", build_skyreels, text, falling, filled=4),
    Case(
        "skyreels-v2-df", "skyreels-v2", build_skyreels,
        lambda seed: {**text(seed), "enable_diffusion_forcing": True}, frame_times, filled=4,
    ),
)  # fmt: skip
