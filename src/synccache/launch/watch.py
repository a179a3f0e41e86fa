"""Waiting for transformers to be called, and attaching a method to each before its first call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from ..anatomies import FAMILIES
from ..anatomies.generic import LATENTS, TIMESTEPS
from ..api import apply
from ..core.anatomy import argument_names, original_class
from ..engine.attach.hook import StandIn, State
from ..errors import InputError, SynccacheError
from ..handle import Handle, handle_of
from ..trace import Trace
from ..trace.timing import Timing
from .caller import Loop, siblings
from .options import Options


@dataclass(frozen=True)
class Attached:
    """What is kept of a handle, so that a script that lets go of a model frees it.

    Attributes:
        models: class names of the transformers, one for each expert.
        pace: the wanted speed-up, or None.
    """

    method: str
    models: tuple[str, ...]
    trace: Trace
    timing: Timing
    speed: float | None


class Watch:
    """Attaches a method to each transformer that is called while this is on.

    A module that takes a timestep is met at its first call, wherever it was made: by then its weights are loaded, it
    has been sharded or moved, and the loop that calls it can be seen. It is attached to if its class is known.

    Attributes:
        attached: what was attached to, in that order.
        unknown: class names of what was called with a timestep and a latent, and isn't known.
        refused: why a known one was not attached to, by class name.
    """

    def __init__(self, options: Options, say: Callable[[str], None]) -> None:
        self.options, self.say = options, say
        self.attached: list[Attached] = []
        self.unknown: list[str] = []
        self.refused: dict[str, str] = {}
        self._hook: Any = None
        self._inside = threading.local()

    def start(self) -> None:
        """Look at modules from now on, as they are made."""
        self._hook = register_module_module_registration_hook(self._made)

    def stop(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _made(self, module: Any, name: str, child: nn.Module | None) -> None:
        cls: Any = type(module)
        if _takes_time(cls) and not isinstance(module.__dict__.get("_call_impl"), FirstCall):
            FirstCall(module, self)

    def meet(self, module: nn.Module) -> None:
        """Attach to ``module``, and to the other experts of its pipeline, if there is something to attach to."""
        if handle_of(module) is not None or getattr(self._inside, "call", False):
            return
        name = original_class(module).__name__
        if not self._is_wanted(module):
            if name not in self.unknown and _looks_like_one(module):
                self.unknown.append(name)
            return
        models = [m for m in siblings(module) if m is module or self._is_wanted(m)]
        try:
            handle = apply(Loop(models), self.options.method, **self.options.settings)
            refuse_to_shorten(handle)
        except SynccacheError as error:
            if name not in self.refused:
                self.refused[name] = str(error)
                self.say(f"not attached to {name}: {error}")
            return
        self.attached.append(_kept(handle))
        names = ", ".join(dict.fromkeys(self.attached[-1].models))
        several = f" (its {len(models)} experts)" if len(models) > 1 else ""
        by = "" if known(module) else ", by structure: what it injects inside its blocks is left out with them"
        self.say(f"{handle.method.name} attached to {names}{several}{by}")

    def _is_wanted(self, module: nn.Module) -> bool:
        return known(module) or original_class(module).__name__ in self.options.include

    def first(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The first call of ``module``: meet it, then call it; what it calls itself is its own."""
        self.meet(module)
        before, self._inside.call = getattr(self._inside, "call", False), handle_of(module) is not None
        try:
            return module._call_impl(*args, **kwargs)
        finally:
            self._inside.call = before


def refuse_to_shorten(handle: Handle) -> None:
    """Take a method off that shortens the schedule: a script's has begun when its transformer is called.

    Raises:
        InputError: it is such a one.
    """
    if handle.method.shorten is not None:
        handle.remove()
        raise InputError(f"{handle.method.name} needs the pipeline before its run. Ask the script for fewer steps.")


class FirstCall(StandIn):
    """Stands before a module until it is called for the first time."""

    def __init__(self, module: nn.Module, watch: Watch) -> None:
        super().__init__(module)
        self.watch = watch
        self._state = State(module)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.module.__dict__.get(self.name) is not self or torch.compiler.is_compiling():
            return self.own(*args, **kwargs)
        self._state.remove()
        self.remove()
        return self.watch.first(self.module, args, kwargs)


def known(module: nn.Module) -> bool:
    """Whether there is an anatomy of its class."""
    return any(family.recognise(module) is not None for family in FAMILIES)


@lru_cache(maxsize=4096)
def _takes_time(cls: Any) -> bool:
    return cls.forward is not nn.Module.forward and bool(set(TIMESTEPS) & set(argument_names(cls)))


def _looks_like_one(module: nn.Module) -> bool:
    """Whether it takes a latent, and has a list of blocks."""
    latent = set(LATENTS) & set(argument_names(original_class(module)))
    return bool(latent) and any(isinstance(child, nn.ModuleList) and len(child) > 1 for child in module.modules())


def _kept(handle: Handle) -> Attached:
    models = tuple(original_class(e.model).__name__ for e in handle.engine.experts)
    pace, timing = handle.engine.pace, handle.engine.timing
    return Attached(handle.method.name, models, handle.trace, timing, None if pace is None else pace.speed)
