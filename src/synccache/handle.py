"""What ``apply`` gives back: the handle on an attached cache."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

from torch import Tensor, nn

from .core.anatomy import Anatomy
from .core.mask import TokenMask, checked_mask
from .core.method import Method
from .core.types import Region, Stored
from .engine.attach.attachment import Attachment
from .engine.engine import Engine
from .engine.place.told import SAME, telling
from .errors import InputError
from .trace import Record, Trace

_HANDLES: WeakKeyDictionary[nn.Module, ReferenceType[Handle]] = WeakKeyDictionary()  # by transformer
Save = Callable[[str, Mapping[str, Any], Path], Path]


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

    def __init__(
        self, engine: Engine, settings: Mapping[str, Any], *, save: Save | None = None,
        schedule: Callable[[], Any] | None = None,
    ) -> None:  # fmt: skip
        self.engine = engine
        self.method: Method = engine.method
        self.settings: Mapping[str, Any] = MappingProxyType(dict(settings))
        self.trace = Trace()
        self.on_step: Callable[[Record], None] | None = None
        self.attached = False
        self._save = save
        self._schedule = schedule  # shortens the pipeline's schedule, when called; gives what takes that back
        self._shortened: Any = None
        self._attachments = [Attachment(engine, expert) for expert in engine.experts]
        engine.on_record = self._record

    # -- attach and detach ---------------------------------------------------------------------------------------

    def attach(self) -> Handle:
        """Hook the transformers and their blocks. All or nothing."""
        try:
            if self._schedule is not None:
                self._shortened = self._schedule()
            for attachment in self._attachments:
                attachment.attach()
                _HANDLES[attachment.expert.model] = ref(self)
        except BaseException:
            self.remove()
            raise
        self.attached = True
        return self

    def remove(self) -> None:
        """Give the model back exactly as it was, and free what was stored. The trace stays readable."""
        for attachment in self._attachments:
            attachment.remove()
            if handle_of(attachment.expert.model) is self:
                del _HANDLES[attachment.expert.model]
        if self._shortened is not None:
            self._shortened.remove()
            self._shortened = None
        self.engine.reset()
        self.engine.sessions.clear()
        self.attached = False

    # -- while attached ------------------------------------------------------------------------------------------

    def at(
        self, *, step: int | None = None, total: int | None = None, branch: Hashable = None, window: Hashable = None,
        run: Hashable = None, request: Hashable = None,
    ) -> AbstractContextManager[None]:  # fmt: skip
        """Inside, calls belong where this says; what is told is believed, whatever the calls look like.

        Any of them, and ``with`` statements can be nested: the inner one adds to the outer one.

        Args:
            step: index of the denoising step, from 0.
            total: number of steps of the run.
            branch: name of the guidance branch, ``"cond"``, ``"uncond"``.
            window: which piece of a longer video, or tile of a picture, this is: each is cached for itself.
            run: another value than before starts a new run, the same one goes on with it.
            request: whose generation it is, where several are interleaved; ``forget_request`` frees it.

        Example:
            >>> for i, t in enumerate(timesteps):
            ...     for start in (0, 16, 32):
            ...         with handle.at(step=i, total=len(timesteps), window=start):
            ...             model(latent[:, :, start : start + 24], t)
        """
        return telling(self.engine, step=step, total=total, branch=branch, window=window, run=run, request=request)

    @contextmanager
    def request(self, request: Hashable) -> Iterator[None]:
        """Inside, calls belong to ``request``, which is done at the end: what was stored for it is freed then."""
        try:
            with telling(self.engine, request=request):
                yield
        finally:
            self.forget_request(request)

    def forget_request(self, request: Hashable) -> None:
        """Free what is stored for a finished request."""
        self.engine.forget(request)

    def same_run(self) -> AbstractContextManager[None]:
        """Inside, a timestep that goes back is a step of the same run (schedulers that re-noise on purpose)."""
        return telling(self.engine, run=SAME)

    @property
    def bytes(self) -> int:
        """Bytes held now: anchors, other branches' lead, and what the gate looks back at."""
        return sum(self.engine.bytes)

    @property
    def host_reads(self) -> int:
        """How often numbers were brought from the device to the host so far."""
        return self.engine.reads

    @property
    def mask(self) -> Tensor | None:
        """Person mask: [H, W] picture, [T, H, W], [B, T or 1, H, W], or [tokens]; values in 0..1; None: uniform."""
        return self.engine.mask.mask

    @mask.setter
    def mask(self, mask: Any) -> None:
        self.engine.mask = TokenMask(checked_mask(mask))

    @property
    def on_store(self) -> Callable[[Stored], bool] | None:
        """Called with each value that is about to be stored; what it gives False for isn't."""
        return self.engine.on_store

    @on_store.setter
    def on_store(self, function: Callable[[Stored], bool] | None) -> None:
        self.engine.on_store = function

    @property
    def anatomy(self) -> Anatomy:
        """What is known of the (first) transformer, including the injection sites found so far."""
        return self.engine.experts[0].structure.anatomy

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions that skipped steps fill in, of the (first) transformer."""
        return self.engine.experts[0].filled

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

    def save(self, path: str | Path) -> Path:
        """Write method and settings as JSON, for ``apply(pipe, settings=path)``. The mask is not part of it.

        A profile that lives in memory only is written beside it, and paths in the file are relative to it.

        Raises:
            InputError: the method was composed in Python, or a setting has no JSON form.
        """
        if self.method.name == "custom" or self._save is None:
            raise InputError("A method composed in Python can't be saved as settings; save the code that makes it.")
        return self._save(self.method.name, self.settings, Path(path))

    def _record(self, record: Record) -> None:
        self.trace.records.append(record)
        if self.on_step is not None:
            self.on_step(record)

    def __repr__(self) -> str:
        models = ", ".join(type(e.model).__name__ for e in self.engine.experts)
        return f"<synccache {self.method.name} on {models}{'' if self.attached else ', removed'}>"


def handle_of(model: Any) -> Handle | None:
    """The handle of the cache that is attached to a transformer, or None."""
    found = _HANDLES.get(model) if isinstance(model, nn.Module) else None
    return found() if found is not None else None
