"""What PEFT does to a model that a cache is on: adapters are loaded, switched, disabled, fused and unloaded."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import peft
import torch
from neighbours import Neighbour
from peft import LoraConfig
from torch import nn

ADAPTED = ["to_q", "to_k", "to_v", "proj_mlp", "proj_out", "ffn.net.2"]


def config() -> LoraConfig:
    torch.manual_seed(7)
    return LoraConfig(r=2, lora_alpha=16, init_lora_weights=False, target_modules=ADAPTED)


def add_adapter(model: nn.Module, name: str = "style") -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # PEFT's, at a second adapter
        model.add_adapter(config(), adapter_name=name)


def add_two(model: nn.Module) -> None:
    add_adapter(model, "warm")
    torch.manual_seed(8)
    add_adapter(model, "cold")
    for module in model.modules():
        if hasattr(module, "lora_B"):
            nn.init.normal_(module.lora_B["cold"].weight)
    model.set_adapter("warm")


def added(model: nn.Module) -> Callable[[], Any]:
    add_adapter(model)
    return lambda: model.delete_adapters("style")


def unloaded(model: nn.Module) -> Callable[[], Any]:
    model.unload_lora()
    return lambda: add_adapter(model)


def switched(model: nn.Module) -> Callable[[], Any]:
    model.set_adapter("cold")
    return lambda: model.set_adapter("warm")


def both(model: nn.Module) -> Callable[[], Any]:
    model.set_adapters(["warm", "cold"], [0.5, 1.0])
    return lambda: model.set_adapters(["warm"], [1.0])


def disabled(model: nn.Module) -> Callable[[], Any]:
    model.disable_adapters()
    return model.enable_adapters


def fused(model: nn.Module) -> Callable[[], Any]:
    model.fuse_lora()
    return model.unfuse_lora


def peft_model(model: nn.Module) -> Callable[[], Any]:
    """PEFT's own wrapper, which puts its layers into the model itself."""
    return peft.get_peft_model(model, config()).unload


def hot_adapter(model: nn.Module) -> None:
    model.enable_lora_hotswap(target_rank=4)
    model.load_lora_adapter(adapter_file(model, 7), adapter_name="style", prefix=None)


def hotswapped(model: nn.Module) -> Callable[[], Any]:
    """Other weights are put into the adapter that is there."""
    swap = {"adapter_name": "style", "prefix": None, "hotswap": True}
    model.load_lora_adapter(adapter_file(model, 8), **swap)
    return lambda: model.load_lora_adapter(adapter_file(model, 7), **swap)


def adapter_file(model: nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """An adapter of rank 2 as it is loaded from a file."""
    random, found = torch.Generator().manual_seed(seed), {}
    for name, module in model.named_modules():
        layer = getattr(module, "base_layer", module)
        if name.endswith(("to_q", "proj_mlp", "ffn.net.2")) and isinstance(layer, nn.Linear):
            found[f"{name}.lora_A.weight"] = torch.randn(2, layer.in_features, generator=random)
            found[f"{name}.lora_B.weight"] = torch.randn(layer.out_features, 2, generator=random)
    return found


def with_adapters(model: str, *found: Callable[[nn.Module], Callable[[], Any]]) -> list[Neighbour]:
    before = {unloaded: add_adapter, switched: add_two, both: add_two, disabled: add_adapter, fused: add_adapter}
    before[hotswapped] = hot_adapter
    return [Neighbour(f"peft_{on.__name__}", on, model, before.get(on, lambda model: None)) for on in found]


ADAPTERS = [
    *with_adapters("flux", added, unloaded, switched, both, disabled, fused, hotswapped, peft_model),
    *with_adapters("wan", added, unloaded, switched, fused),
]
