"""All of a call's arguments but the timestep and the latent: which guidance branch is this, and has it changed?

Pipelines pass the same objects at every step, so identity settles nearly every case. Only where it doesn't are values
compared, by a few numbers of each tensor that come over with whatever else the call needs on the host.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...core.anatomy import tensors_in, version

_SAMPLES = 16
WIDTH = _SAMPLES + 1
MOST = 4  # tensors of one argument that are compared by value: longer lists are residuals, made anew at every step
PROMPT = re.compile(r"encoder_hidden|text|prompt|caption|cap_feats|pooled")  # names of arguments that are a prompt


class Mark:
    """Tells a tensor again: by identity, and by whether it was written to since."""

    __slots__ = ("age", "reference", "version")

    def __init__(self, tensor: Tensor, gone: Callable[[Mark], None] | None = None) -> None:
        self.age = 0
        self.version = version(tensor)
        self.reference = weakref.ref(tensor, None if gone is None else lambda _: gone(self))

    def is_of(self, tensor: Tensor) -> bool:
        return self.reference() is tensor and self.version == version(tensor)


class Conditioning:
    """The arguments of one call by name: their tensors, and plain values (numbers, flags, words).

    Attributes:
        compared: the tensors that are compared by value.
        numbers: names of those that are a number, or one for each sample: they may move with the timestep, all but
            whole numbers (frames a second) and the guidance scale that a model is told.
    """

    def __init__(self, arguments: Mapping[str, Any], leave_out: Collection[str], samples: int = 1) -> None:
        given = {name: value for name, value in arguments.items() if name not in leave_out and value is not None}
        self.tensors = {name: found for name, value in given.items() if (found := tensors_in(value))}
        self.plain = {name: plain for name, value in given.items() if (plain := _plain_in(value))}
        self.numbers = {n for n, value in given.items() if "guidance" not in n and _is_number(value, samples)}
        self.compared = {name: tensors for name, tensors in self.tensors.items() if len(tensors) <= MOST}


def _is_number(value: Any, samples: int) -> bool:
    if isinstance(value, Tensor):
        return value.is_floating_point() and value.ndim < 2 and value.numel() <= samples
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain_in(value: Any) -> tuple[Any, ...]:
    """All numbers, flags and words in nested lists, tuples and dictionaries, with the keys that they stand under."""
    if isinstance(value, bool | int | float | str):
        return (value,)
    if isinstance(value, Mapping):
        return tuple((key, found) for key, v in value.items() if (found := _plain_in(v)))
    if isinstance(value, list | tuple):
        return tuple(found for v in value for found in _plain_in(v))
    return ()


class Prints:
    """A few numbers of each of some tensors, by argument. They stay on the device until somebody has to read them.

    Attributes:
        forms: shape and dtype of each tensor.
        values: by argument, a row of numbers for each tensor; None while ``unread`` holds them on the device.
    """

    def __init__(self, tensors: Mapping[str, Sequence[Tensor]]) -> None:
        self.forms = {name: [(tuple(t.shape), t.dtype) for t in found] for name, found in tensors.items()}
        rows = [_print(t) for found in tensors.values() for t in found]
        self.unread = torch.cat([row.to(rows[0].device, rows[0].dtype) for row in rows]) if rows else None
        self.values: dict[str, list[tuple[float, ...]]] | None = None if rows else {}

    def arrive(self, values: Sequence[float]) -> None:
        """Their values have come to the host."""
        rows = iter([tuple(values[i : i + WIDTH]) for i in range(0, len(values), WIDTH)])
        self.values = {name: [next(rows) for _ in forms] for name, forms in self.forms.items()}
        self.unread = None

    def equal(self, other: Prints | None) -> set[str]:
        """Names of the arguments that have the same values in another call; none while these aren't known."""
        if other is None or self.values is None or other.values is None:
            return set()
        alike = self.forms.keys() & other.forms.keys()
        return {n for n in alike if self.forms[n] == other.forms[n] and self.values[n] == other.values[n]}


def _print(tensor: Tensor) -> Tensor:
    """[WIDTH]: values spread over the tensor, and the size of the whole: silence differs from speech anywhere."""
    flat = tensor.detach()
    if flat.is_complex():
        flat = torch.view_as_real(flat)
    flat = flat.reshape(-1)
    wide = torch.float64 if flat.device.type == "cpu" else torch.float32
    found = torch.zeros(WIDTH, dtype=wide, device="cpu" if flat.is_meta else flat.device)
    if flat.numel() and not flat.is_meta:
        picked = flat[:: max(1, flat.numel() // _SAMPLES)][:_SAMPLES]
        found[: picked.numel()] = picked
        found[-1] = flat.sum(dtype=wide) if flat.dtype is torch.bool else flat.abs().sum(dtype=wide)
    return found
