"""Hooking the *call* of a module, by giving it a same-named subclass of its own class.

A patched ``forward`` is lost when another hook on the module is removed, and recompiles under ``module.compile()``.
A class does neither; ``isinstance``, ``state_dict``, hooks and the class's name stay as they were, and copies and
pickles of the module are of the original class.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ..errors import Conflict

_SUBCLASSES: WeakKeyDictionary[type, type] = WeakKeyDictionary()
LINK = "_synccache"


class Link(Protocol):
    """What a hooked module calls instead of itself; ``run`` is the module's own call."""

    def call(self, run: Any, args: tuple, kwargs: dict[str, Any]) -> Any: ...

    def named_context(self, name: str) -> Any: ...


def hook(module: nn.Module, link: Link) -> None:
    """Send the module's calls through ``link``."""
    module.__dict__[LINK] = link
    if not hasattr(type(module), "_synccache_base"):
        module.__class__ = _subclass(type(module))


def unhook(module: nn.Module) -> None:
    """Give the module its own class back; nothing happens to one that isn't hooked."""
    module.__dict__.pop(LINK, None)
    base = getattr(type(module), "_synccache_base", None)
    if base is not None:
        module.__class__ = base


def link_of(module: Any) -> Link | None:
    return getattr(module, "__dict__", {}).get(LINK)


def bring_weights(module: nn.Module) -> None:
    """Load a module that group offloading loads with the first module of its group, which was left out."""
    registry = getattr(module, "_diffusers_hook", None)
    hook = registry.get_hook("group_offloading") if registry is not None else None
    group = getattr(hook, "group", None)
    if group is not None and group.onload_leader is not module:
        group.onload_()


def _refuse_to_be_traced(name: str, inside_block: bool) -> None:
    # Traced through, a decision would be frozen into the graph, or compiled anew on every step.
    if inside_block:
        raise Conflict(
            f"synccache is attached to the {name} inside a block that was compiled, and a compiled graph can't leave a "
            "part of itself out. Choose a method that leaves out whole blocks, or don't compile them."
        )
    raise Conflict(
        f"synccache is attached to this {name}, which is part of something larger that was compiled, and a compiled "
        "graph can't leave blocks out. Compile the repeated blocks in place instead: model.compile_repeated_blocks(), "
        "or block.compile() for each."
    )


def _new(cls: type, *args: Any) -> Any:
    return cls.__new__(cls, *args)


def _subclass(base: type) -> type:
    # One subclass per class, not per module, so that compiled repeated blocks keep sharing one graph.
    if base in _SUBCLASSES:
        return _SUBCLASSES[base]

    def __call__(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        link = self.__dict__.get(LINK)
        run = super(sub, self).__call__
        if link is not None and torch.compiler.is_compiling():  # not so where the module itself is what is compiled
            torch.compiler.disable(_refuse_to_be_traced)(base.__name__, hasattr(link, "part"))
        return run(*args, **kwargs) if link is None else link.call(run, args, kwargs)

    def __reduce_ex__(self: nn.Module, protocol: Any) -> Any:
        reduced = super(sub, self).__reduce_ex__(protocol)
        assert isinstance(reduced, tuple)
        build, params, state, *rest = reduced
        if isinstance(state, dict):
            state = {k: v for k, v in state.items() if k != LINK}
        if params and params[0] is sub:  # copyreg.__newobj__ insists on the object's class of now
            build, params = _new, (base, *params[1:])
        return (build, params, state, *rest)

    members: dict[str, Any] = {
        "__call__": __call__,
        "__reduce_ex__": __reduce_ex__,
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "_synccache_base": base,
    }
    if hasattr(base, "cache_context"):  # diffusers' CacheMixin: the pipeline names its guidance branches with it

        @contextmanager
        def cache_context(self: nn.Module, name: str, **fields: Any) -> Any:
            link = self.__dict__.get(LINK)
            with super(sub, self).cache_context(name, **fields):
                if link is None:
                    yield
                else:
                    with link.named_context(name):
                        yield

        members["cache_context"] = cache_context
    if hasattr(base, "enable_cache"):

        def enable_cache(self: nn.Module, config: Any) -> None:
            raise Conflict(
                f"synccache is attached to this {base.__name__}, so {type(config).__name__} can't be enabled on it. "
                "Call synccache.remove(model) first."
            )

        members["enable_cache"] = enable_cache
    sub: Any = type(base.__name__, (base,), members)
    _SUBCLASSES[base] = sub
    return sub
