"""The models that are measured: as large as they are, or scaled down to what a processor can do."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...anatomies import find
from ...core.anatomy import Anatomy, bind, original_class
from ...core.structure import Structure
from ...inspection.calls import Size
from ...inspection.models import MODELS, Model
from ...inspection.watch import watch

SCALES = ("full", "short", "medium", "small", "tiny")
SUBJECTS = ("wan2.2-s2v-14b", "hunyuanvideo-avatar", "wan2.1-t2v-1.3b", "flux.1-dev")

# As large as the real ones, but on a shorter clip or a smaller picture.
_SHORT = {
    "wan2.2-s2v-14b": Size(832, 448, 20),
    "hunyuanvideo-avatar": Size(512, 512, 33),
    "wan2.1-t2v-1.3b": Size(832, 480, 17),
    "flux.1-dev": Size(512, 512),
}
_Built = dict[str, tuple[dict[str, Any], Size]]
# All blocks, 512 channels, about 4,000 tokens.
_MEDIUM: _Built = {
    "wan2.2-s2v-14b": ({"dim": 512, "ffn_dim": 1408, "num_heads": 4}, Size(256, 256, 64)),
    "hunyuanvideo-avatar": ({"hidden_size": 512, "heads_num": 4}, Size(256, 256, 61)),
    "wan2.1-t2v-1.3b": ({"num_attention_heads": 4, "ffn_dim": 2048, "num_layers": 30}, Size(256, 256, 61)),
    "flux.1-dev": ({"num_attention_heads": 4, "guidance_embeds": True}, Size(1024, 1024)),
}
_SMALL: _Built = {
    "wan2.2-s2v-14b": (
        {"dim": 256, "ffn_dim": 704, "num_heads": 4, "num_layers": 10, "inject_layers": (0, 1, 3, 5, 7, 9)},
        Size(128, 128, 8),
    ),
    "hunyuanvideo-avatar": (
        {"hidden_size": 128, "heads_num": 2, "depth_double_blocks": 4, "depth_single_blocks": 4},
        Size(128, 128, 9),
    ),
    "wan2.1-t2v-1.3b": (
        {"num_attention_heads": 4, "attention_head_dim": 64, "ffn_dim": 704, "num_layers": 8},
        Size(144, 144, 9),
    ),
    "flux.1-dev": (
        {"num_attention_heads": 4, "attention_head_dim": 64, "axes_dims_rope": (8, 28, 28), "num_layers": 2,
         "num_single_layers": 4, "guidance_embeds": True},
        Size(192, 192),
    ),
}  # fmt: skip
_TINY: _Built = {
    "wan2.2-s2v-14b": (
        {"dim": 48, "ffn_dim": 64, "num_heads": 4, "num_layers": 6, "inject_layers": (0, 2, 4, 5), "text_dim": 8},
        Size(64, 64, 8),
    ),
    "hunyuanvideo-avatar": (
        {"hidden_size": 64, "heads_num": 2, "depth_double_blocks": 4, "depth_single_blocks": 2, "text_dim": 8},
        Size(32, 32, 5),
    ),
    "wan2.1-t2v-1.3b": (
        {"num_attention_heads": 2, "attention_head_dim": 16, "ffn_dim": 64, "num_layers": 4, "text_dim": 8},
        Size(32, 32, 5),
    ),
    "flux.1-dev": (
        {"num_attention_heads": 2, "attention_head_dim": 16, "axes_dims_rope": (4, 6, 6), "num_layers": 2,
         "num_single_layers": 2, "joint_attention_dim": 8, "guidance_embeds": True},
        Size(32, 32),
    ),
}  # fmt: skip


_BUILT = {"medium": _MEDIUM, "small": _SMALL, "tiny": _TINY}


def model_at(name: str, scale: str) -> Model:
    """The model of that name at one of ``SCALES``; only ``small`` and ``tiny`` have fewer blocks than the real one."""
    full = MODELS[name]
    if scale in _BUILT:
        config, size = _BUILT[scale][name]
        return replace(full, config=config, size=size)
    return replace(full, size=_SHORT[name]) if scale == "short" else full


@dataclass(frozen=True)
class Subject:
    """A transformer with random weights, and how to call it.

    Attributes:
        model: what it was built from; ``size``: what it is called at.
        network: the transformer, on its device.
        arguments: of its forward, but for the timestep.
        device: where it lies.
    """

    model: Model
    size: Size
    network: nn.Module
    arguments: dict[str, Any]
    device: torch.device

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.network.parameters())

    def twin(self) -> nn.Module:
        """Another module of the same structure over the same weights: each contender has one of its own."""
        shared = {id(t): t for t in itertools.chain(self.network.parameters(), self.network.buffers())}
        return copy.deepcopy(self.network, shared)  # type: ignore[arg-type]

    def idle_twin(self) -> nn.Module:
        """A twin whose blocks hand on what they are given: what is left is what has to stay live on a skipped step."""
        network = self.twin()
        structure, _ = watch(network, find(network), self.at(1.0))
        places = {id(block): index for index, block in enumerate(structure.anatomy.blocks)}
        for blocks in [m for m in network.modules() if isinstance(m, nn.ModuleList)]:
            for number, block in enumerate(blocks):
                if id(block) in places:
                    blocks[number] = Idle(structure, places[id(block)])
        return network

    def at(self, part: float) -> dict[str, Any]:
        """The forward's arguments at ``part`` of the way from the clean picture (0) to noise (1)."""
        call = self.model.call
        time = torch.tensor([call.scale * part], device=self.device, dtype=torch.float32)
        return {**self.arguments, call.timestep: time}

    @property
    def anatomy(self) -> Anatomy:
        return find(self.network)


class Idle(nn.Module):
    """Stands for a block: gives back each stream as it came, in the structure of the block's output."""

    def __init__(self, structure: Structure, index: int) -> None:
        super().__init__()
        self.cls = original_class(structure.anatomy.blocks[index])
        self.streams = tuple(structure.streams(index))
        self.output: Callable[[dict[str, Tensor]], Any] = lambda streams: structure.skipped_output(index, streams)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        bound = bind(self.cls, args, kwargs)
        return self.output({name: bound[name] for name in self.streams})


def prepare(name: str, scale: str, device: torch.device, dtype: torch.dtype) -> Subject:
    """Build a model with random weights on ``device`` and make inputs for it."""
    torch.manual_seed(0)
    model = model_at(name, scale)
    network = model.build(device, dtype)
    size = model.size or model.call.size
    model.call.check(name, size)

    def make(*sizes: int) -> Tensor:
        return torch.randn(sizes, device=device, dtype=dtype)

    arguments = model.call.arguments(model.complete(network), size, make)
    return Subject(model, size, network, arguments, device)
