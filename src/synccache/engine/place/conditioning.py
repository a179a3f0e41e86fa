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

    __slots__ = ("age", "form", "reference", "version")

    def __init__(self, tensor: Tensor, gone: Callable[[Mark], None] | None = None) -> None:
        self.age = 0
        self.version = version(tensor)
        self.form = (tuple(tensor.shape), tensor.dtype)
        self.reference = weakref.ref(tensor, None if gone is None else lambda _: gone(self))

    def is_of(self, tensor: Tensor) -> bool:
        return self.reference() is tensor and self.version == version(tensor)


class Conditioning:
    """The arguments of one call by name: their tensors, and plain values (numbers, flags, words).

    Attributes:
        numbers: names of those that are a number, or one for each sample: they may move with the timestep, all but
            whole numbers (frames a second) and the guidance scale that a model is told.
    """

    def __init__(self, arguments: Mapping[str, Any], leave_out: Collection[str], samples: int = 1) -> None:
        self.tensors: dict[str, list[Tensor]] = {}
        self.plain: dict[str, Any] = {}
        self.numbers: set[str] = set()
        for name, value in arguments.items():
            if name in leave_out or value is None:
                continue
            if isinstance(value, Tensor):
                self.tensors[name] = [value]
                amount = value.is_floating_point() and "guidance" not in name
                if amount and value.ndim < 2 and value.numel() <= samples:
                    self.numbers.add(name)
            elif isinstance(value, bool | int | float | str):
                self.plain[name] = value
                if isinstance(value, int | float) and not isinstance(value, bool) and "guidance" not in name:
                    self.numbers.add(name)
            else:
                found, plain = tensors_in(value), _plain_in(value)
                if found:
                    self.tensors[name] = found
                if plain:
                    self.plain[name] = plain

    @property
    def compared(self) -> list[Tensor]:
        """The tensors of which ``prints`` are made, argument by argument."""
        return [t for tensors in self.tensors.values() if len(tensors) <= MOST for t in tensors]

    @property
    def layout(self) -> dict[str, tuple[int, list[Any]]]:
        """By argument: the row of its first print, and what its tensors look like."""
        found, row = {}, 0
        for name, tensors in self.tensors.items():
            if len(tensors) <= MOST:
                found[name] = row, [(tuple(t.shape), t.dtype) for t in tensors]
                row += len(tensors)
        return found


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
    """A few numbers of each of some tensors. They stay on the device until somebody has to read them."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.rows: list[tuple[float, ...]] | None = None if tensors else []
        self.unread: Tensor | None = None
        if tensors:
            found = [_print(t) for t in tensors]
            self.unread = torch.cat([f.to(found[0].device, found[0].dtype) for f in found])

    def arrive(self, values: Sequence[float]) -> None:
        """Their values have come to the host."""
        self.rows = [tuple(values[i : i + WIDTH]) for i in range(0, len(values), WIDTH)]
        self.unread = None


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
