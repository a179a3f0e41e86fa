"""What others do to a model that a cache is on: hooks, wrappers, other classes, adapters, other weights, offloading."""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import accelerate
import torch
import torch.nn.functional as F
from diffusers.hooks import HookRegistry
from diffusers.hooks import ModelHook as DiffusersHook
from models import image, wan
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

BUILD = {"flux": image.build_flux, "wan": lambda: wan.build(layers=4)}
INPUTS = {"flux": image.flux, "wan": wan.text}
PLACES = {  # a model, two blocks, and modules that are filled in; then layers with weights
    "flux": (
        "", "transformer_blocks.1", "single_transformer_blocks.1", "transformer_blocks.1.attn",
        "single_transformer_blocks.1.proj_out",
    ),
    "wan": ("", "blocks.1", "blocks.2", "blocks.1.ffn"),
}  # fmt: skip
LAYERS = {
    "flux": ("transformer_blocks.1.attn.to_q", "transformer_blocks.0.ff.net.2", "single_transformer_blocks.1.proj_out"),
    "wan": ("blocks.1.attn1.to_q", "blocks.2.ffn.net.2"),
}  # fmt: skip


@dataclass(frozen=True)
class Neighbour:
    """Something that others do to a model.

    Attributes:
        on: does it, and gives what undoes it, or None where nothing can.
        model: which one it is done to.
        before: what is done to the model in any case, before all else.
        shows: says whether it is there, where the model's numbers don't tell.
        runs: counts the graphs that ran, where compiled code hides the modules.
        refuses: scopes with which it can't be combined.
    """

    name: str
    on: Callable[[nn.Module], Callable[[], Any] | None]
    model: str = "flux"
    before: Callable[[nn.Module], Any] = lambda model: None
    shows: Callable[[nn.Module], bool] | None = None
    runs: Callable[[], int] | None = None
    refuses: frozenset[str] = field(default_factory=frozenset)


def kind(model: nn.Module) -> str:
    return "flux" if hasattr(model, "transformer_blocks") else "wan"


def places(model: nn.Module) -> list[nn.Module]:
    return [model.get_submodule(name) for name in PLACES[kind(model)]]


def layers(model: nn.Module) -> list[nn.Module]:
    return [model.get_submodule(name) for name in LAYERS[kind(model)]]


def all_of(undo: Iterable[Callable[[], Any]]) -> Callable[[], None]:
    """Undoes one after the other, the last one first."""
    undo = list(undo)

    def off() -> None:
        for one in reversed(undo):
            one()

    return off


def at_all_places(on: Callable[[nn.Module], Callable[[], Any]]) -> Callable[[nn.Module], Callable[[], Any]]:
    return lambda model: all_of([on(module) for module in places(model)])


def at_all_layers(on: Callable[[nn.Module], Callable[[], Any]]) -> Callable[[nn.Module], Callable[[], Any]]:
    return lambda model: all_of([on(module) for module in layers(model)])


def louder(output: Any, by: float = 1.25) -> Any:
    """All tensors of an output times ``by``."""
    return tuple(louder(x, by) for x in output) if isinstance(output, tuple) else output * by


# -- around one module ---------------------------------------------------------------------------------------------


def forward_hook(module: nn.Module) -> Callable[[], Any]:
    return module.register_forward_hook(lambda _, args, output: louder(output)).remove


def forward_pre_hook(module: nn.Module) -> Callable[[], Any]:
    def change(_: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        if args:
            return (args[0] * 1.25, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": kwargs["hidden_states"] * 1.25}

    return module.register_forward_pre_hook(change, with_kwargs=True).remove


def forward_on_the_instance(module: nn.Module) -> Callable[[], Any]:
    inner = module.forward
    module.forward = lambda *args, **kwargs: louder(inner(*args, **kwargs))
    return lambda: delattr(module, "forward")


def another_class(module: nn.Module) -> Callable[[], Any]:
    before = type(module)

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return louder(before.forward(self, *args, **kwargs))

    module.__class__ = type(f"Louder{before.__name__}", (before,), {"forward": forward})
    return lambda: setattr(module, "__class__", before)


def call_impl_of_another(module: nn.Module) -> Callable[[], Any]:
    """Another library stands in the same place, and takes itself off as it came."""
    own = "_call_impl" in vars(module)
    inner = module._call_impl
    mine = module._call_impl = lambda *args, **kwargs: louder(inner(*args, **kwargs))

    def off() -> None:
        if vars(module).get("_call_impl") is mine:
            del module._call_impl
            if own and getattr(inner, "act", None) is not None:
                module._call_impl = inner

    return off


def accelerate_hook(module: nn.Module) -> Callable[[], Any]:
    class Louder(accelerate.hooks.ModelHook):
        def post_forward(self, module: nn.Module, output: Any) -> Any:
            return louder(output)

    accelerate.hooks.add_hook_to_module(module, Louder())
    return lambda: accelerate.hooks.remove_hook_from_module(module)


def diffusers_hook(module: nn.Module) -> Callable[[], Any]:
    class Louder(DiffusersHook):
        def post_forward(self, module: nn.Module, output: Any) -> Any:
            return louder(output)

    registry = HookRegistry.check_if_exists_or_initialize(module)
    registry.register_hook(Louder(), "louder")
    return lambda: registry.remove_hook("louder", recurse=False)


# -- other modules and weights -------------------------------------------------------------------------------------


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
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))


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
    spectral_norm(module)
    return lambda: parametrize.remove_parametrizations(module, "weight")


def pruned(module: nn.Module) -> Callable[[], Any]:
    prune.l1_unstructured(module, "weight", 0.3)
    return lambda: prune.remove(module, "weight")


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


AROUND = (
    forward_hook, forward_pre_hook, forward_on_the_instance, another_class, call_impl_of_another, accelerate_hook,
    diffusers_hook,
)  # fmt: skip
WEIGHTS = (half_weights, own_parametrization, weight_normed, spectral_normed, pruned)
FILLED = (*PLACES["flux"][3:], "transformer_blocks.0.ff", "transformer_blocks.1.ff.net.2")
MODULES = tuple(
    [Neighbour(on.__name__, at_all_places(on)) for on in AROUND]
    + [Neighbour(on.__name__, at_all_layers(on)) for on in WEIGHTS]
    + [
        Neighbour("louder_copy", lambda model: replaced(model, FILLED, louder_copy)),
        Neighbour("wrapped", lambda model: replaced(model, FILLED, Wrapped)),
        Neighbour("wrapped_blocks", lambda model: replaced(model, PLACES["wan"][1:3], Wrapped), model="wan"),
        Neighbour("louder_copy_of_a_block", lambda model: replaced(model, ["blocks.2"], louder_copy), model="wan"),
    ]
)
