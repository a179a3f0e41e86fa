"""Hooking the *call* of a module so that nobody else can tell.

``nn.Module.__call__`` looks ``_call_impl`` up on the instance. A hook stands there: the class of the module stays what
it is (tables keyed by ``type(module)`` work), what others do to its class, its ``forward``, its hooks or its children
keeps working before and after, and taking the hook off deletes one entry of the instance's dictionary.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..anatomy import original_class
from ...errors import Conflict

Act = Callable[[Callable[..., Any], tuple, dict[str, Any]], Any]  # (the module's own call, args, kwargs)


class StandIn:
    """An attribute in the place of a method of the module's class. A copy or pickle of the module has that method."""

    name = "_call_impl"

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def own(self, *args: Any, **kwargs: Any) -> Any:
        """The method of the module's class, as that is now."""
        return getattr(type(self.module), self.name)(self.module, *args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = memo[id(self.module)]
        return getattr(type(copied), self.name).__get__(copied)

    def __reduce__(self) -> Any:
        return getattr(type(self.module), self.name).__get__, (self.module,)


class Hook(StandIn):
    """Sends a module's calls to ``act``, also where the module is compiled, before or after the hook was put on.

    Args:
        inside: what the module is part of, ``"a block"``, or "" for a block and a whole model.

    Attributes:
        owner: the handle of the cache, on the hook of a whole transformer.
    """

    owner: Any = None

    def __init__(self, module: nn.Module, act: Act, inside: str = "") -> None:
        super().__init__(module)
        self.act, self.inside = act, inside
        self.before = module.__dict__.get(self.name)  # another's stand-in
        self.compiled: Any = None
        self.running = False
        self.adopt()
        module.__dict__[self.name] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            if self.running:  # the module itself is what is compiled
                return self.own(*args, **kwargs)
            torch.compiler.disable(_refuse_to_be_traced)(original_class(self.module).__name__, self.inside)
        return self.act(self.run, args, kwargs)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """The module's own call."""
        if self.compiled is not None:
            self.running = True
            try:
                return self.compiled(*args, **kwargs)
            finally:
                self.running = False
        return self.before(*args, **kwargs) if self.before is not None else self.own(*args, **kwargs)

    def adopt(self) -> None:
        """Take over what ``module.compile()`` has made: called by the hook, it may not be called in its place."""
        compiled = getattr(self.module, "_compiled_call_impl", None)
        if compiled is not None:
            self.compiled = compiled
            del self.module._compiled_call_impl

    def remove(self) -> None:
        """Give the module back as it would be without the hook; where another's stands before it, it passes on."""
        self.act = lambda run, args, kwargs: run(*args, **kwargs)
        if self.module.__dict__.get(self.name) is self:
            del self.module.__dict__[self.name]
            if self.before is not None:
                self.module.__dict__[self.name] = self.before
        if self.compiled is not None:
            self.module._compiled_call_impl = self.compiled


class ContextHook(StandIn):
    """Hears what diffusers' ``cache_context`` tells of a call: ``tell(name, fields)`` gives a context manager."""

    name = "cache_context"

    def __init__(self, module: nn.Module, tell: Callable[[str, dict[str, Any]], Any]) -> None:
        super().__init__(module)
        self.tell = tell
        self.before = module.__dict__.get(self.name)  # another's stand-in
        module.__dict__[self.name] = self

    @contextmanager
    def __call__(self, name: str, **fields: Any) -> Any:
        own = self.own if self.before is None else self.before
        with own(name, **fields), self.tell(name, fields):
            yield

    def remove(self) -> None:
        if self.module.__dict__.get(self.name) is self:
            del self.module.__dict__[self.name]
            if self.before is not None:
                self.module.__dict__[self.name] = self.before


def hook_of(module: Any) -> Hook | None:
    """The hook of ours that sits on a module, if any."""
    found = getattr(module, "__dict__", {}).get(Hook.name)
    return found if isinstance(found, Hook) else None


def bring_weights(module: nn.Module) -> None:
    """Load a module that group offloading loads with the first module of its group, which was left out."""
    registry = getattr(module, "_diffusers_hook", None)
    hook = registry.get_hook("group_offloading") if registry is not None else None
    group = getattr(hook, "group", None)
    if group is not None and group.onload_leader is not module:
        group.onload_()


def _refuse_to_be_traced(name: str, inside: str) -> None:
    # Traced through, a decision would be frozen into the graph, or compiled anew on every step.
    if inside:
        raise Conflict(
            f"synccache is attached to the {name} inside {inside} that was compiled, and a compiled graph can't leave "
            "a part of itself out. Choose a method that leaves out whole blocks, or don't compile them."
        )
    raise Conflict(
        f"synccache is attached to this {name}, which is part of something larger that was compiled, and a compiled "
        "graph can't leave blocks out. Compile the repeated blocks in place instead: model.compile_repeated_blocks(), "
        "or block.compile() for each."
    )
