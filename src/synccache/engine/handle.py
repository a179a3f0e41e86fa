"""What ``apply`` gives back: the handle on an attached cache."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from .anatomy import Anatomy
from .document import write_document
from .engine import Engine
from .mask import TokenMask, checked_mask
from .method import Method
from .shorten import ShortSchedule
from .swap import hook, link_of, unhook
from .trace import Record, Trace

SETTINGS_SCHEMA, SETTINGS_VERSION = "synccache.settings", 1


class ModelLink:
    """Sends a transformer's calls to the engine."""

    def __init__(self, handle: Handle, expert: int) -> None:
        self.handle, self.expert = handle, expert

    def call(self, run: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        return self.handle.engine.run_model(self.expert, run, args, kwargs)

    def named_context(self, name: str) -> Any:
        return self.handle.engine.named_branch(name)


class BlockLink:
    """Sends a block's calls to the engine."""

    def __init__(self, engine: Engine, expert: int, index: int) -> None:
        self.engine, self.expert, self.index = engine, expert, index

    def call(self, run: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        return self.engine.run_block(self.expert, self.index, run, args, kwargs)

    def named_context(self, name: str) -> Any:
        return self.engine.named_branch(name)


class PartLink:
    """Sends the calls of a module inside a block to the engine."""

    def __init__(self, engine: Engine, expert: int, index: int, part: str) -> None:
        self.engine, self.expert, self.index, self.part = engine, expert, index, part

    def call(self, run: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        return self.engine.run_part(self.expert, self.index, self.part, run, args, kwargs)

    def named_context(self, name: str) -> Any:
        return self.engine.named_branch(name)


class Handle:
    """An attached cache.

    Attributes:
        method: what is attached.
        settings: the settings in force, defaults included (read-only).
        trace: what was decided, call by call.
        on_step: called with each new ``Record``; for progress bars.

    Example:
        >>> handle = synccache.apply(pipe, "synccache", computed_steps=12)
        >>> video = pipe(image=portrait, audio=speech)
        >>> handle.remove()
    """

    def __init__(self, engine: Engine, settings: Mapping[str, Any], anatomies: tuple[Anatomy, ...]) -> None:
        self.engine = engine
        self.method: Method = engine.method
        self.settings: Mapping[str, Any] = MappingProxyType(dict(settings))
        self.attached = False
        self._modules: list[nn.Module] = []
        self._short: ShortSchedule | None = None
        self._anatomies = anatomies

    # -- attach and detach ---------------------------------------------------------------------------------------

    def attach(self) -> Handle:
        """Hook the transformers and their blocks. All or nothing."""
        try:
            if self.method.shorten is not None:
                self._short = ShortSchedule(self.engine.pipeline, self.method.shorten)
            for expert, (model, anatomy) in enumerate(zip(self.engine.models, self._anatomies, strict=True)):
                self._hook(model, ModelLink(self, expert))
                for index, block in enumerate(anatomy.blocks):
                    self._hook(block, BlockLink(self.engine, expert, index))
                for region in self.engine.regions[expert]:
                    for name in region.modules:
                        module = anatomy.blocks[region.first].get_submodule(name)
                        self._hook(module, PartLink(self.engine, expert, region.first, name))
        except BaseException:
            self.remove()
            raise
        self.attached = True
        return self

    def _hook(self, module: nn.Module, link: Any) -> None:
        hook(module, link)
        self._modules.append(module)

    def remove(self) -> None:
        """Give the model back exactly as it was, and free what was stored. The trace stays readable."""
        for module in self._modules:
            unhook(module)
        self._modules.clear()
        if self._short is not None:
            self._short.remove()
            self._short = None
        self.engine.reset()
        self.attached = False

    # -- while attached ------------------------------------------------------------------------------------------

    @property
    def trace(self) -> Trace:
        return self.engine.trace

    @property
    def bytes(self) -> int:
        """Bytes that anchors hold now."""
        return self.engine.bytes

    @property
    def mask(self) -> Tensor | None:
        """Person mask: [H, W] picture, [T, H, W], [B, T or 1, H, W], or [tokens]; values in 0..1; None: uniform."""
        return self.engine.mask.mask

    @mask.setter
    def mask(self, mask: Any) -> None:
        self.engine.mask = TokenMask(checked_mask(mask))

    @property
    def on_step(self) -> Callable[[Record], None] | None:
        return self.engine.on_step

    @on_step.setter
    def on_step(self, function: Callable[[Record], None] | None) -> None:
        self.engine.on_step = function

    @property
    def anatomy(self) -> Anatomy:
        """What is known of the (first) transformer, including the injection sites found so far."""
        return self.engine.structures[0].anatomy

    @property
    def regions(self) -> tuple[Any, ...]:
        """The regions that skipped steps fill in, of the (first) transformer."""
        return self.engine.regions[0]

    def reset(self) -> None:
        """Forget all stored values and clear the trace; the next call starts a new run."""
        self.engine.reset()
        self.trace.clear()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Inside, the model runs untouched; stored values are dropped, since steps pass unseen."""
        self.engine.reset()
        self.engine.paused += 1
        try:
            yield
        finally:
            self.engine.paused -= 1

    def request(self, request: Hashable) -> AbstractContextManager[None]:
        """Inside, calls belong to ``request``: interleaved generations on one model are kept apart."""
        return self.engine.requesting(request)

    def forget_request(self, request: Hashable) -> None:
        """Free what is stored for a finished request."""
        self.engine.sessions.pop(request, None)

    @contextmanager
    def same_run(self) -> Iterator[None]:
        """Inside, a timestep that goes back is a step of the same run (schedulers that re-noise on purpose)."""
        clock = self.engine.session().clock
        before, clock.held = clock.held, True
        try:
            yield
        finally:
            clock.held = before

    def save(self, path: str | Path) -> Path:
        """Write method and settings as JSON, for ``apply(pipe, settings=path)``. The mask is not part of it.

        Raises:
            InputError: the method was composed in Python, or a setting has no JSON form.
        """
        if self.method.name == "custom":
            raise InputError("A method composed in Python can't be saved as settings; save the code that makes it.")
        settings = {k: _plain(k, v) for k, v in self.settings.items() if v is not None}
        content = {"method": self.method.name, "settings": settings}
        return write_document(path, SETTINGS_SCHEMA, SETTINGS_VERSION, content)

    def __repr__(self) -> str:
        models = ", ".join(type(m).__name__ for m in self.engine.models)
        return f"<synccache {self.method.name} on {models}{'' if self.attached else ', removed'}>"


def handle_of(model: Any) -> Handle | None:
    """The handle of the cache that is attached to a transformer, or None."""
    link = link_of(model)
    return link.handle if isinstance(link, ModelLink) else None


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, torch.dtype | torch.device):
        return str(value).removeprefix("torch.")
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(name, v) for v in value]
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, str | int | float | bool):
        return value
    raise InputError(f"{name}={value!r} has no form in a settings file. Leave it out and give it when applying.")
