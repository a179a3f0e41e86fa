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

from ...conflicts import refuse_compiled
from ...core.anatomy import original_class
from ..place.told import telling
from .seat import Seat

Act = Callable[[Callable[..., Any], tuple, dict[str, Any]], Any]  # (the module's own call, args, kwargs)


class StandIn:
    """An attribute in the place of a method of the module's class. Copies and pickles of the module go without it.

    ``client``: for whom it stands there.
    """

    name = "_call_impl"

    def __init__(self, module: nn.Module, client: Any = None) -> None:
        self.module, self.client = module, client
        self.before = module.__dict__.get(self.name)  # another's stand-in
        module.__dict__[self.name] = self

    def own(self, *args: Any, **kwargs: Any) -> Any:
        """What is called without this: another's stand-in, or the method of the module's class, as that is now."""
        if self.before is not None:
            return self.before(*args, **kwargs)
        return getattr(type(self.module), self.name)(self.module, *args, **kwargs)

    def remove(self) -> None:
        """Give the place back, unless another has taken it since: that one calls on, and ``own`` is what it reaches."""
        there = self.module.__dict__
        if there.get(self.name) is self:
            del there[self.name]
            if self.before is not None:
                there[self.name] = self.before


class Hook(StandIn):
    """Sends a module's calls to ``act``.

    The module may be compiled, before or after the hook is put on: then ``run`` is what was compiled, without the hook.

    Args:
        seat: where the module sits, so that it shows when another takes its place; None where that needn't.
        inside: what the module is part of, ``"a block"``, or "" for a block and a whole model.
    """

    def __init__(self, module: nn.Module, act: Act | None, seat: Seat | None = None, inside: str = "") -> None:
        super().__init__(module)
        self.act, self.seat, self.inside = act, seat, inside
        self.compiled: Any = None
        self._others = State(module), Compile(module, self)
        self.adopt()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.act is None:  # another has called it since it was removed, or has put it back
            super().remove()
            return self.own(*args, **kwargs)
        if torch.compiler.is_compiling():
            torch.compiler.disable(refuse_compiled)(original_class(self.module).__name__, self.inside)
        return self.act(self.run, args, kwargs)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """The module's own call."""
        call = self.own if self.compiled is None else self.compiled
        return call(*args, **kwargs)

    def adopt(self) -> None:
        """Take over what ``module.compile()``, or its undoing, has left: where that stands, the hook isn't called."""
        if "_compiled_call_impl" in self.module.__dict__:
            self.compiled = self.module.__dict__.pop("_compiled_call_impl")

    def there(self) -> nn.Module:
        """The module that sits where its own did."""
        now = self.seat.now() if self.seat is not None else None
        return self.module if now is None else now

    def is_lost(self) -> bool:
        """Whether another module has its module's seat, or another stand-in has its place, or has taken it off.

        What these add would come after the hook, and not be seen as the module's own.
        """
        return self.there() is not self.module or self.module.__dict__.get(self.name) is not self

    def remove(self) -> None:
        """Give the module back as it would be without the hook."""
        self.adopt()
        self.act = None  # so that nothing is held by whoever may still hold this
        for other in self._others:
            other.remove()
        super().remove()
        if self.compiled is not None:
            self.module._compiled_call_impl = self.compiled


class Compile(StandIn):
    """``module.compile()``: compiles the module's call as it is without the hook, its ``client``."""

    name = "compile"

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        there = self.module.__dict__
        standing = there[Hook.name]
        StandIn.remove(self.client)
        try:
            self.own(*args, **kwargs)
        finally:
            there[Hook.name] = standing
        self.client.adopt()


class State(StandIn):
    """``module.__getstate__()``, which copies and pickles are made from: goes without what stands in here."""

    name = "__getstate__"

    def __call__(self) -> Any:
        known = self.before is not None or hasattr(type(self.module), self.name)  # Python 3.10 has none for all objects
        state = self.own() if known else self.module.__dict__
        if not isinstance(state, dict):
            return state
        state = dict(state)
        for name in [name for name, value in state.items() if isinstance(value, StandIn)]:
            value = state.pop(name)
            while isinstance(value, StandIn):
                value = value.before
            if value is not None:
                state[name] = value
        return state


class ContextHook(StandIn):
    """Hears what diffusers' ``cache_context`` tells of a call, for an engine, its ``client``."""

    name = "cache_context"

    @contextmanager
    def __call__(self, name: str, **fields: Any) -> Any:
        step, total, run = (fields.get(field) for field in ("step_index", "num_inference_steps", "run"))
        with self.own(name, **fields), telling(self.client, branch=name, step=step, total=total, run=run):
            yield


def bring_weights(module: nn.Module) -> None:
    """Load a module that group offloading loads with the first module of its group, which was left out."""
    registry = getattr(module, "_diffusers_hook", None)
    hook = registry.get_hook("group_offloading") if registry is not None else None
    group = getattr(hook, "group", None)
    if group is not None and group.onload_leader is not module:
        group.onload_()
