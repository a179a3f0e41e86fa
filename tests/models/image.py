"""Image models of diffusers at tiny configurations: pictures of 4 x 6 tokens, prompts of 5."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    Flux2Transformer2DModel,
    FluxTransformer2DModel,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    ZImageTransformer2DModel,
)
from torch import Tensor, nn

from . import Case, Noise, falling, seeded

TOKENS, WIDTH = 24, 32


def build_flux() -> nn.Module:
    small = {
        "in_channels": 8, "num_layers": 3, "num_single_layers": 3, "attention_head_dim": 16, "num_attention_heads": 2,
        "joint_attention_dim": 12, "pooled_projection_dim": 8, "axes_dims_rope": (4, 4, 8),
    }  # fmt: skip
    return seeded(lambda: FluxTransformer2DModel(**small))


def build_flux2() -> nn.Module:
    small = {
        "in_channels": 8, "num_layers": 2, "num_single_layers": 3, "attention_head_dim": 16, "num_attention_heads": 2,
        "joint_attention_dim": 12, "timestep_guidance_channels": 16, "axes_dims_rope": (4, 4, 4, 4),
    }  # fmt: skip
    return seeded(lambda: Flux2Transformer2DModel(**small))


def build_qwen(**given: Any) -> nn.Module:
    small = {
        "in_channels": 8, "out_channels": 2, "num_layers": 4, "attention_head_dim": 16, "num_attention_heads": 2,
        "joint_attention_dim": 12, "axes_dims_rope": (4, 4, 8),
    }  # fmt: skip
    return seeded(lambda: QwenImageTransformer2DModel(**{**small, **given}))


def build_sd3(**given: Any) -> nn.Module:
    small = {
        "sample_size": 12, "in_channels": 4, "out_channels": 4, "num_layers": 4, "attention_head_dim": 16,
        "num_attention_heads": 2, "joint_attention_dim": 12, "caption_projection_dim": 32, "pooled_projection_dim": 8,
        "pos_embed_max_size": 8,
    }  # fmt: skip
    return seeded(lambda: SD3Transformer2DModel(**{**small, **given}))


def build_z_image() -> nn.Module:
    small = {
        "in_channels": 4, "dim": 32, "n_layers": 3, "n_refiner_layers": 2, "n_heads": 2, "n_kv_heads": 2,
        "cap_feat_dim": 12, "axes_dims": [4, 6, 6], "axes_lens": [64, 8, 8],
    }  # fmt: skip
    return seeded(lambda: ZImageTransformer2DModel(**small))


def positions(columns: int, *pictures: tuple[int, int, int]) -> Tensor:
    """(number, row, column, 0...) of every token of pictures given as (number, h, w)."""
    axes = [[torch.tensor([n]), torch.arange(h), torch.arange(w), *[torch.zeros(1).long()] * (columns - 3)]
            for n, h, w in pictures]  # fmt: skip
    return torch.cat([torch.cartesian_prod(*a) for a in axes])


def flux(seed: int, references: int = 0) -> dict[str, Any]:
    """Kontext's reference pictures, 3 x 2 tokens each, follow the image."""
    noise = Noise(seed)
    return {
        "hidden_states": noise(1, TOKENS + 6 * references, 8), "encoder_hidden_states": noise(1, 5, 12),
        "pooled_projections": noise(1, 8), "txt_ids": torch.zeros(5, 3),
        "img_ids": positions(3, (0, 4, 6), *[(1, 3, 2)] * references).float(), "return_dict": False,
    }  # fmt: skip


def flux2(seed: int, references: int = 0) -> dict[str, Any]:
    """Positions in four numbers with a batch; references numbered 10, 20, ..."""
    noise = Noise(seed)
    shapes = [(0, 4, 6), *[(10 * n + 10, 3, 2) for n in range(references)]]
    return {
        "hidden_states": noise(1, TOKENS + 6 * references, 8), "encoder_hidden_states": noise(1, 5, 12),
        "txt_ids": torch.zeros(1, 5, 4), "img_ids": positions(4, *shapes)[None], "guidance": torch.full((1,), 4.0),
        "return_dict": False,
    }  # fmt: skip


def qwen(seed: int, *references: tuple[int, int, int]) -> dict[str, Any]:
    """Edit's reference pictures, as (1, h, w) tokens each, follow the image."""
    noise = Noise(seed)
    tokens = TOKENS + sum(h * w for _, h, w in references)
    return {
        "hidden_states": noise(1, tokens, 8), "encoder_hidden_states": noise(1, 5, 12),
        "encoder_hidden_states_mask": torch.tensor([[1, 1, 1, 1, 0]]), "img_shapes": [[(1, 4, 6), *references]],
        "return_dict": False,
    }  # fmt: skip


def sd3(seed: int) -> dict[str, Any]:
    noise = Noise(seed)
    return {
        "hidden_states": noise(1, 4, 8, 12), "encoder_hidden_states": noise(1, 5, 12),
        "pooled_projections": noise(1, 8), "return_dict": False,
    }  # fmt: skip


def z_image(seed: int) -> dict[str, Any]:
    """Lists, one entry for each of two samples; image and caption are padded to 32 tokens each."""
    noise = Noise(seed)
    return {
        "x": [noise(4, 1, 8, 12) for _ in range(2)],
        "cap_feats": [noise(n, 12) for n in (5, 7)],
        "return_dict": False,
    }


def residuals(seed: int, count: int, tokens: int = TOKENS) -> list[Tensor]:
    """What a ControlNet gives: ``count`` times [1, tokens, 32]."""
    noise = Noise(seed)
    return [noise(1, tokens, WIDTH) for _ in range(count)]


def flux_control(seed: int) -> dict[str, Any]:
    """Two residuals for the three double blocks, three for the single ones."""
    two, three = residuals(seed, 2), residuals(seed + 50, 3)
    return {"controlnet_block_samples": two, "controlnet_single_block_samples": three}


def qwen_control(seed: int) -> dict[str, Any]:
    return {"controlnet_block_samples": residuals(seed, 2)}


def sd3_control(seed: int) -> dict[str, Any]:
    return {"block_controlnet_hidden_states": residuals(seed, 3)}


def z_image_control(seed: int) -> dict[str, Any]:
    """For blocks 0 and 2 of the unified sequence, 32 tokens of image and 32 of caption."""
    return {"controlnet_block_samples": dict(zip((0, 2), residuals(seed, 2, tokens=64), strict=True))}


def sigma(step: int) -> Tensor:
    """Timestep over 1000, as the pipelines of FLUX and Qwen-Image pass it."""
    return falling(step) / 1000


def progress(step: int) -> Tensor:
    """Z-Image counts up, for each of two samples."""
    return torch.tensor([0.1 + 0.03 * step] * 2)


def with_control(name: str, anatomy: str, build, inputs, control, times, filled: int, **given: Any) -> Case:
    """A case whose inputs carry a ControlNet's residuals; changed, they come from another seed."""
    return Case(
        f"{name}-controlnet", anatomy, build, lambda seed: {**inputs(seed), **control(seed)}, times, filled,
        changed=lambda arguments: {**arguments, **control(7)}, **given,
    )  # fmt: skip


def stacked(output: tuple[list[Tensor]]) -> Tensor:
    """Z-Image gives a list of [C, T, H, W]."""
    return torch.stack(output[0])


SD35 = {"dual_attention_layers": (0, 1), "qk_norm": "rms_norm"}
LISTS = {"timestep": "t", "output": stacked}
CASES = (
    Case("flux", "flux", build_flux, flux, sigma, filled=6),
    Case("flux-kontext", "flux", build_flux, lambda seed: flux(seed, references=1), sigma, filled=6),
    with_control("flux", "flux", build_flux, flux, flux_control, sigma, filled=6),
    Case("flux2", "flux2", build_flux2, flux2, sigma, filled=5),
    Case("flux2-edit", "flux2", build_flux2, lambda seed: flux2(seed, references=2), sigma, filled=5),
    Case("qwen-image", "qwen-image", build_qwen, qwen, sigma, filled=4),
    with_control("qwen-image", "qwen-image", build_qwen, qwen, qwen_control, sigma, filled=4),
    Case(
        "qwen-image-edit", "qwen-image", lambda: build_qwen(zero_cond_t=True),
        lambda seed: qwen(seed, (1, 3, 2), (1, 2, 2)), sigma, filled=4,
    ),
    Case("sd3", "sd3", build_sd3, sd3, falling, filled=4),
    Case("sd3.5", "sd3", lambda: build_sd3(**SD35), sd3, falling, filled=4),
    with_control("sd3", "sd3", build_sd3, sd3, sd3_control, falling, filled=4),
    Case("z-image", "z-image", build_z_image, z_image, progress, filled=5, **LISTS),
    with_control("z-image", "z-image", build_z_image, z_image, z_image_control, progress, filled=5, **LISTS),
)  # fmt: skip
