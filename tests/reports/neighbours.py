"""What others do to a model that a cache is on; and hooks, wrappers and classes of their own around a module."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import accelerate
from diffusers import FluxTransformer2DModel
from diffusers.hooks import HookRegistry
from diffusers.hooks import ModelHook as DiffusersHook
from models import image, seeded, wan
from torch import nn

FLUX = {
    "in_channels": 8, "num_layers": 2, "num_single_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2,
    "joint_attention_dim": 12, "pooled_projection_dim": 8, "axes_dims_rope": (4, 4, 8),
}  # fmt: skip
BUILD = {"flux": lambda: seeded(lambda: FluxTransformer2DModel(**FLUX)), "wan": lambda: wan.build(layers=3)}
INPUTS = {"flux": image.flux, "wan": wan.text}
PLACES = {  # a model, two blocks, and modules that are filled in
    "flux": (
        "", "transformer_blocks.0", "single_transformer_blocks.0", "transformer_blocks.1.attn",
        "single_transformer_blocks.1.proj_out",
    ),
    "wan": ("", "blocks.0", "blocks.1", "blocks.1.ffn"),
}  # fmt: skip


@dataclass(frozen=True)
class Neighbour:
    """Something that others do to a model.

    Attributes:
        on: does it, and gives what undoes it; None where nothing can (``goes``).
        model: which one it is done to.
        before: what is done to the model in any case, before all else.
        shows: says whether it is there, where the model's numbers don't tell.
        stays: it can't go while something that came later stands on it; it has no effect any more, that is all.
        runs: counts the graphs that ran, where compiled code hides the modules.
        refuses: scopes with which it can't be combined.
    """

    name: str
    on: Callable[[nn.Module], Callable[[], Any] | None]
    model: str = "flux"
    before: Callable[[nn.Module], Any] = lambda model: None
    shows: Callable[[nn.Module], bool] | None = None
    goes: bool = True
    stays: bool = False
    runs: Callable[[], int] | None = None
    refuses: frozenset[str] = field(default_factory=frozenset)


def kind(model: nn.Module) -> str:
    return "flux" if hasattr(model, "transformer_blocks") else "wan"


def places(model: nn.Module) -> list[nn.Module]:
    return [model.get_submodule(name) for name in PLACES[kind(model)]]


def all_of(undo: Iterable[Callable[[], Any]]) -> Callable[[], None]:
    """Undoes one after the other, the last one first."""
    undo = list(undo)

    def off() -> None:
        for one in reversed(undo):
            one()

    return off


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
    """Another library stands in the same place; where a third one stands on it, it can only fall silent."""
    inner, heard = vars(module).get("_call_impl"), [True]
    own = module._call_impl

    def mine(*args: Any, **kwargs: Any) -> Any:
        return louder(own(*args, **kwargs)) if heard else own(*args, **kwargs)

    module._call_impl = mine

    def off() -> None:
        heard.clear()
        if vars(module).get("_call_impl") is mine:
            del module._call_impl
            if inner is not None:
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


AROUND = tuple(
    Neighbour(on.__name__, lambda model, on=on: all_of([on(module) for module in places(model)]), stays=stays)
    for on, stays in (
        (forward_hook, False), (forward_pre_hook, False), (forward_on_the_instance, False), (another_class, False),
        (call_impl_of_another, True), (accelerate_hook, False), (diffusers_hook, False),
    )
)  # fmt: skip
