"""diffusers' own pipelines with tiny random parts, in the place of the checkpoints that the pages name.

What is not diffusers' own: prompts become random embeddings, because there is no text encoder; a call makes a small
picture or video whatever size it asks for; and what wants a GPU is done on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import accelerate
import diffusers
import torch
from diffusers.pipelines.ltx2 import LTX2TextConnectors
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder
from models import Noise, hunyuan, image, ltx, wan
from torch import Tensor, nn

CPU = torch.device("cpu")
STEPS = 8  # of every call: enough to compute five steps and to skip some
VIDEO = {"height": 32, "width": 32, "num_frames": 9}
PICTURE = {"height": 32, "width": 32}


class OnTheCpu:
    """The part of a pipeline that knows of devices."""

    def to(self, *args: Any, **kwargs: Any) -> Any:
        return self

    def enable_model_cpu_offload(self, *args: Any, **kwargs: Any) -> None:
        self.transformer, _ = accelerate.cpu_offload_with_hook(self.transformer, CPU)


def group_offloading(enable: Callable[..., None]) -> Callable[..., None]:
    """``enable_group_offload`` that loads onto the CPU, where there are no streams of CUDA."""

    def on_the_cpu(model: nn.Module, onload_device: torch.device, **given: Any) -> None:
        assert onload_device == torch.device("cuda")
        streams = ("use_stream", "record_stream", "non_blocking")
        enable(model, onload_device=CPU, **{k: v for k, v in given.items() if k not in streams})

    return on_the_cpu


def made(cls: Any, embeddings: Callable[[], tuple[Tensor, ...]], size: dict[str, int], **parts: Any) -> Any:
    """A pipeline of ``cls`` whose prompts become ``embeddings()``, and whose calls make something of ``size``."""

    class Tiny(OnTheCpu, cls):  # type: ignore[misc, valid-type]
        def encode_prompt(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
            return embeddings()

        def __call__(self, *args: Any, **given: Any) -> Any:
            return super().__call__(*args, **{**given, **size, "num_inference_steps": STEPS})

    pipe = Tiny(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def euler() -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)


def wan_vae() -> Any:
    return diffusers.AutoencoderKLWan(
        base_dim=3, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip


def wan_parts(vae: Any = None) -> dict[str, Any]:
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return {"tokenizer": None, "text_encoder": None, "scheduler": scheduler, "vae": vae or wan_vae()}


def wan_prompts() -> tuple[Tensor, ...]:
    noise = Noise(0)
    return noise(1, 6, 16), noise(1, 6, 16)


def wan_text(vae: Any = None) -> Any:
    return made(diffusers.WanPipeline, wan_prompts, VIDEO, **wan_parts(vae), transformer=wan.build())


def wan_image(vae: Any = None) -> Any:
    experts = {name: wan.build(in_channels=12) for name in ("transformer", "transformer_2")}
    parts = {**wan_parts(vae), "image_processor": None, "image_encoder": None, "boundary_ratio": 0.9}
    return made(diffusers.WanImageToVideoPipeline, wan_prompts, VIDEO, **parts, **experts)


def hunyuan_video() -> Any:
    blocks = {f"{part}_block_types": (f"HunyuanVideo{name}Block3D",) * 4
              for part, name in (("down", "Down"), ("up", "Up"))}  # fmt: skip
    vae = diffusers.AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4, **blocks
    )
    parts = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))

    def prompts() -> tuple[Tensor, ...]:
        noise = Noise(0)
        return noise(1, 6, 12), noise(1, 8), torch.ones(1, 6)

    return made(
        diffusers.HunyuanVideoPipeline, prompts, VIDEO, **parts, vae=vae, transformer=hunyuan.build(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0),
    )  # fmt: skip


def ltx_2() -> Any:
    vae = diffusers.AutoencoderKLLTX2Video(
        latent_channels=4, block_out_channels=(8,), decoder_block_out_channels=(8,), layers_per_block=(1,),
        decoder_layers_per_block=(1, 1), spatio_temporal_scaling=(True,), decoder_spatio_temporal_scaling=(True,),
        decoder_inject_noise=(False, False), downsample_type=("spatial",), upsample_residual=(False,),
        upsample_factor=(1,), timestep_conditioning=False, patch_size=1, patch_size_t=1, decoder_causal=False,
    )  # fmt: skip
    sound = diffusers.AutoencoderKLLTX2Audio(
        base_channels=4, output_channels=2, ch_mult=(1,), num_res_blocks=1, in_channels=2, resolution=32,
        latent_channels=2, mel_bins=8,
    )  # fmt: skip
    vocoder = LTX2Vocoder(
        in_channels=16, hidden_channels=32, out_channels=2, upsample_kernel_sizes=[4, 4], upsample_factors=[2, 2],
        resnet_kernel_sizes=[3], resnet_dilations=[[1, 3, 5]],
    )  # fmt: skip
    small = {"num_attention_heads": 2, "attention_head_dim": 6, "num_layers": 1, "num_learnable_registers": None}
    connectors = LTX2TextConnectors(
        caption_channels=12, text_proj_in_factor=1,
        **{f"{kind}_connector_{name}": value for kind in ("video", "audio") for name, value in small.items()},
    )  # fmt: skip

    def prompts() -> tuple[Tensor, ...]:
        noise, everything = Noise(0), torch.ones(1, 6, dtype=torch.long)
        return noise(1, 6, 12), everything, noise(1, 6, 12), everything

    return made(
        diffusers.LTX2Pipeline, prompts, VIDEO, text_encoder=None, tokenizer=None, vae=vae, audio_vae=sound,
        vocoder=vocoder, connectors=connectors, transformer=ltx.build_2(), scheduler=euler(),
    )  # fmt: skip


def flux() -> Any:
    vae = diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=2, shift_factor=0.1)
    parts = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))

    def prompts() -> tuple[Tensor, ...]:
        noise = Noise(0)
        return noise(1, 6, 12), noise(1, 8), torch.zeros(6, 3)

    return made(
        diffusers.FluxPipeline, prompts, PICTURE, **parts, vae=vae, transformer=image.build_flux(), scheduler=euler()
    )


def qwen_image() -> Any:
    vae = diffusers.AutoencoderKLQwenImage(
        base_dim=8, z_dim=2, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 2, latents_std=[1.0] * 2,
    )  # fmt: skip

    def prompts() -> tuple[Tensor, ...]:
        return Noise(0)(1, 6, 12), torch.ones(1, 6, dtype=torch.long)

    return made(
        diffusers.QwenImagePipeline, prompts, PICTURE, text_encoder=None, tokenizer=None, vae=vae,
        transformer=image.build_qwen(), scheduler=euler(),
    )  # fmt: skip


PIPELINES = {
    "WanPipeline": wan_text, "WanImageToVideoPipeline": wan_image, "HunyuanVideoPipeline": hunyuan_video,
    "LTX2Pipeline": ltx_2, "FluxPipeline": flux, "QwenImagePipeline": qwen_image,
}  # fmt: skip
