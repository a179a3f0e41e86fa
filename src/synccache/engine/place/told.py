"""What a caller tells of where its calls belong. It is never second-guessed."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from ...errors import InputError

SAME = object()  # as ``run``: the run of the call before, whatever speaks against it
_TOLD: ContextVar[Mapping[int, Told]] = ContextVar("synccache_told", default=MappingProxyType({}))


@dataclass(frozen=True)
class Told:
    """What is told of the calls inside a ``with handle.at(...)``, whose arguments these are; None: nothing."""

    step: int | None = None
    total: int | None = None
    branch: Hashable = None
    window: Hashable = None
    run: Hashable = None
    request: Hashable = None


NOTHING = Told()


def told_to(listener: Any) -> Told:
    """What is told at present to ``listener``, an engine."""
    return _TOLD.get().get(id(listener), NOTHING)


@contextmanager
def telling(listener: Any, **given: Any) -> Iterator[None]:
    """Tell ``listener`` what is ``given`` and not None, beside what is told around it already.

    Raises:
        InputError: a step or a total that is no such number.
    """
    known = {name: value for name, value in given.items() if value is not None}
    for name, least in (("step", 0), ("total", 1)):
        value = known.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise InputError(f"{name}={value!r} is no {name} of a run. Give a whole number of at least {least}.")
    token = _TOLD.set({**_TOLD.get(), id(listener): replace(told_to(listener), **known)})
    try:
        yield
    finally:
        _TOLD.reset(token)
