"""LTX-Video and LTX-2 at tiny configurations: 2 x 3 x 4 video tokens of width 16, in LTX-2 also 5 audio tokens."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import LTX2VideoTransformer3DModel, LTXVideoTransformer3DModel
from torch import Tensor, nn

from . import Case, Noise, falling, seeded

SMALL = {
    "in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 8, "cross_attention_dim": 16,
    "num_layers": 4, "caption_channels": 12,
}  # fmt: skip
SIZE = {"num_frames": 2, "height": 3, "width": 4}


def build() -> nn.Module:
    return seeded(lambda: LTXVideoTransformer3DModel(**SMALL))


def build_2() -> nn.Module:
    more = {
        "audio_in_channels": 4, "audio_out_channels": 4, "audio_num_attention_heads": 2, "audio_attention_head_dim": 4,
        "audio_cross_attention_dim": 8,
    }  # fmt: skip
    return seeded(lambda: LTX2VideoTransformer3DModel(**SMALL, **more))


def inputs(seed: int) -> dict[str, Any]:
    noise = Noise(seed)
    return {
        "hidden_states": noise(1, 24, 4), "encoder_hidden_states": noise(1, 5, 12),
        "encoder_attention_mask": torch.tensor([[1, 1, 1, 1, 0]]), **SIZE, "return_dict": False,
    }  # fmt: skip


def inputs_2(seed: int) -> dict[str, Any]:
    noise = Noise(seed + 100)
    return {
        **inputs(seed), "audio_hidden_states": noise(1, 5, 4), "audio_encoder_hidden_states": noise(1, 5, 12),
        "audio_num_frames": 5,
    }  # fmt: skip


def token_times(step: int) -> Tensor:
    """Image-to-video: one timestep for each token [1, 24], 0 for the first frame's."""
    return torch.cat([torch.zeros(12), falling(step).expand(12)])[None]


def both(out: tuple[Tensor, Tensor]) -> Tensor:
    """Video and audio [1, 29, 4]."""
    return torch.cat(out, dim=1)


CASES = (
    Case("ltx-video", "ltx-video", build, inputs, falling, filled=4),
    Case("ltx-video-i2v", "ltx-video", build, inputs, token_times, filled=4),
    Case("ltx-2", "ltx-2", build_2, inputs_2, falling, filled=4, output=both),
)
