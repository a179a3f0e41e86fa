"""Tiny random weights in the place of checkpoints, and the CPU in the place of a GPU."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

import diffusers
import torch
import torch.distributed as dist
from diffusers.models.modeling_utils import ModelMixin
from tiny_pipelines import PIPELINES, group_offloading, wan_vae

from synccache import Notice

CHECKPOINTS = {
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": "WanPipeline", "Wan-AI/Wan2.2-I2V-A14B-Diffusers": "WanImageToVideoPipeline",
    "hunyuanvideo-community/HunyuanVideo": "HunyuanVideoPipeline", "Lightricks/LTX-2": "LTX2Pipeline",
    "black-forest-labs/FLUX.1-dev": "FluxPipeline", "Qwen/Qwen-Image": "QwenImagePipeline",
}  # fmt: skip


def loaded(cls: Any, name: str, torch_dtype: torch.dtype, **parts: Any) -> Any:
    """In the place of ``from_pretrained``: the pipeline that belongs to this checkpoint."""
    assert CHECKPOINTS[name] == cls.__name__ and torch_dtype is torch.bfloat16
    return PIPELINES[cls.__name__](**parts)


def loaded_vae(cls: Any, name: str, subfolder: str, torch_dtype: torch.dtype) -> Any:
    assert name in CHECKPOINTS and subfolder == "vae" and torch_dtype is torch.float32
    return wan_vae()


def replacements() -> list[tuple[Any, str, Any]]:
    return [
        (diffusers.DiffusionPipeline, "from_pretrained", classmethod(loaded)),
        (diffusers.AutoencoderKLWan, "from_pretrained", classmethod(loaded_vae)),
        (ModelMixin, "enable_group_offload", group_offloading(ModelMixin.enable_group_offload)),
        (torch, "compile", functools.partial(torch.compile, backend="eager")),
    ]


def tiny_models_are_slow() -> None:
    """Blocks of a tiny model take no longer than what is around them, so that no speed can be had; that is said."""
    warnings.filterwarnings("ignore", "speed=.* can't be had here", Notice)
    warnings.filterwarnings("ignore", "This run has 8 steps", Notice)


def patch(rank: int, ranks: int, store: Path) -> None:
    """For a process of its own, one of several ranks that meet at the file ``store``."""
    for owner, name, value in replacements():
        setattr(owner, name, value)
    begin = dist.init_process_group

    def begin_with_gloo(backend: str) -> None:
        assert backend == "nccl"
        begin("gloo", init_method=store.as_uri(), rank=rank, world_size=ranks)

    dist.init_process_group = begin_with_gloo
    torch.cuda.set_device = lambda device: None
    torch.accelerator.device_count = lambda: 1  # diffusers asks which accelerator is this rank's; here there is none
    tiny_models_are_slow()
