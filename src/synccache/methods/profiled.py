"""What recipes take from a profile."""

from __future__ import annotations

from torch import Tensor

from ..errors import InputError
from .recipe import Settings


def learned(s: Settings, method: str, name: str, what: str) -> Tensor:
    """The tensor ``name`` of the setting ``profile``.

    Raises:
        InputError: there is no profile, or no such tensor in it; ``what`` says in words what is missing.
    """
    make = f"Make one with: synccache profile --method {method} --out profile.safetensors"
    if s["profile"] is None:
        raise InputError(f"The method {method!r} needs profile=..., with {what}. {make}")
    if name not in s["profile"].tensors:
        found = ", ".join(s["profile"].tensors)
        raise InputError(f"The profile holds {found}, and the method {method!r} needs {name!r}, {what}. {make}")
    return s["profile"].tensors[name]
