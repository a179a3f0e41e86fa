"""Answers to what models ask of the values of tensors that have none: a mask leaves nothing out, a question is true."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

EMPTY = "synccache_leaves_all_out"


@contextmanager
def answered() -> Iterator[None]:
    """Inside, a model on the "meta" device can be called though it looks at masks, or asks for autocast."""
    autocast = torch.autocast
    torch.autocast = lambda kind, *args, **how: nullcontext() if kind == "meta" else autocast(kind, *args, **how)  # type: ignore
    try:
        with _Answers():
            yield
    finally:
        torch.autocast = autocast  # type: ignore[misc]


class _Answers(TorchFunctionMode):
    """Masks can be indexed by, and counted: each is True everywhere, its ``~`` nowhere."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        first = args[0] if args else None
        if isinstance(first, Tensor) and first.is_meta:
            if func is Tensor.__bool__:
                return not _is_empty(first)
            if func is torch.nonzero and not kwargs.get("as_tuple"):
                return first.new_empty(0 if _is_empty(first) else first.numel(), first.ndim, dtype=torch.int64)
            if func is Tensor.__getitem__ and _is_mask(args[1]):
                return first.flatten(0, args[1].ndim - 1)[: 0 if _is_empty(args[1]) else None]
            if func is Tensor.__invert__ and _is_mask(first):
                inverted = func(*args, **kwargs)
                setattr(inverted, EMPTY, not _is_empty(first))
                return inverted
        return func(*args, **kwargs)


def _is_mask(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_meta and value.dtype is torch.bool


def _is_empty(mask: Tensor) -> bool:
    return getattr(mask, EMPTY, False)
