"""Other weights in a model that a cache is on, and other modules in the place of its own."""

from __future__ import annotations

import copy
import types
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from neighbours import PLACES, Neighbour, all_of, kind, louder
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

LAYERS = {
    "flux": ("transformer_blocks.1.attn.to_q", "transformer_blocks.0.ff.net.2", "single_transformer_blocks.1.proj_out"),
    "wan": ("blocks.1.attn1.to_q", "blocks.2.ffn.net.2"),
}  # fmt: skip


def layers(model: nn.Module) -> list[nn.Module]:
    return [model.get_submodule(name) for name in LAYERS[kind(model)]]


# -- weights -------------------------------------------------------------------------------------------------------


class Louder(nn.Module):
    """A parametrization: weights times 1.25."""

    def forward(self, weight: Tensor) -> Tensor:
        return 1.25 * weight


class Halves(Tensor):
    """Weights in half precision that linear layers are computed with as float32, as quantised ones are."""

    @classmethod
    def __torch_function__(cls, func: Any, kinds: Any, args: tuple = (), kwargs: Any = None) -> Any:
        if func is F.linear:
            args = (args[0], args[1].as_subclass(Tensor).half().float(), *args[2:])
            return func(*args, **(kwargs or {}))
        return super().__torch_function__(func, kinds, args, kwargs)


def half_weights(module: nn.Module) -> Callable[[], Any]:
    """What ``quantize_`` does: the weight gets another type, in the same module, which gets an ``extra_repr``."""
    before = module.weight
    module.weight = nn.Parameter(before.detach().as_subclass(Halves), requires_grad=False)
    module.extra_repr = types.MethodType(lambda self: "halves", module)

    def off() -> None:
        module.weight = before
        del module.extra_repr

    return off


def own_parametrization(module: nn.Module) -> Callable[[], Any]:
    parametrize.register_parametrization(module, "weight", Louder())
    return lambda: parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)


def weight_normed(module: nn.Module) -> Callable[[], Any]:
    weight_norm(module)
    with torch.no_grad():
        module.parametrizations.weight.original0.mul_(1.25)
    return lambda: parametrize.remove_parametrizations(module, "weight")


def spectral_normed(module: nn.Module) -> Callable[[], Any]:
    torch.manual_seed(3)
    spectral_norm(module)
    return lambda: parametrize.remove_parametrizations(module, "weight")


def pruned(module: nn.Module) -> Callable[[], Any]:
    prune.l1_unstructured(module, "weight", 0.3)
    return lambda: prune.remove(module, "weight")


# -- modules -------------------------------------------------------------------------------------------------------


def replaced(model: nn.Module, names: Iterable[str], other: Callable[[nn.Module], nn.Module]) -> Callable[[], Any]:
    """Put other modules in the place of those with ``names``."""
    undo = []
    for name in names:
        before = model.get_submodule(name)
        model.set_submodule(name, other(before))
        undo.append(lambda name=name, before=before: model.set_submodule(name, before))
    return all_of(undo)


def louder_copy(module: nn.Module) -> nn.Module:
    """A copy, as those make it who replace modules: it goes without the cache of the one that it is a copy of."""
    twin = copy.deepcopy(module)
    with torch.no_grad():
        for weights in twin.parameters():
            weights.mul_(1.25)
    return twin


class Wrapped(nn.Module):
    """A module around another, with an effect of its own."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return louder(self.inner(*args, **kwargs))


class WrappedBlock(Wrapped):
    """Around a block, which says what it is called with."""

    def forward(self, hidden_states: Tensor, *args: Any) -> Tensor:
        return super().forward(hidden_states, *args)


def quantised(model: nn.Module) -> Callable[[], Any]:
    """Other modules stand in the place of linear layers."""
    names = LAYERS[kind(model)][1:]
    before = layers(model)[1:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that this moves to torchao
        torch.ao.quantization.quantize_dynamic(model, set(names), inplace=True)
    assert all(a is not b for a, b in zip(before, layers(model)[1:], strict=True))
    return lambda: [model.set_submodule(n, m) for n, m in zip(names, before, strict=True)]


def new_list(model: nn.Module) -> Callable[[], Any]:
    """Wrapped blocks in a list of their own, which takes the place of the model's."""
    before = model.blocks
    model.blocks = nn.ModuleList(WrappedBlock(block) for block in before)
    return lambda: setattr(model, "blocks", before)


FILLED = (*PLACES["flux"][3:], "transformer_blocks.0.ff", "transformer_blocks.1.ff.net.2")
WEIGHTS = (
    *(
        Neighbour(on.__name__, lambda model, on=on: all_of([on(module) for module in layers(model)]))
        for on in (half_weights, own_parametrization, weight_normed, spectral_normed, pruned)
    ),
    Neighbour("louder_copies", lambda model: replaced(model, FILLED, louder_copy)),
    Neighbour("quantise_dynamic", quantised),
    Neighbour("wrapped", lambda model: replaced(model, FILLED, Wrapped)),
    Neighbour("wrapped_blocks", lambda model: replaced(model, PLACES["wan"][1:3], WrappedBlock), model="wan"),
    Neighbour("new_list_of_blocks", new_list, model="wan", refuses=frozenset({"modules"})),
    Neighbour("louder_copy_of_a_block", lambda model: replaced(model, ["blocks.2"], louder_copy), model="wan"),
)
