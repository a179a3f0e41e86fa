"""What the value of each setting may be."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..core.pace import speed_of
from ..errors import InputError

# What the first block may be called with that tells how far the model has moved on.
SIGNALS = ("time embedding", "projected time embedding", "modulated input of the first block")


def _number(low: float, high: float = float("inf"), whole: bool = False) -> tuple[Callable[[Any], bool], str]:
    kind = "a whole number" if whole else "a number"
    span = f"{kind} of at least {low:g}" if high == float("inf") else f"{kind} from {low:g} to {high:g}"
    types: Any = int if whole else (int, float)
    return lambda v: isinstance(v, types) and not isinstance(v, bool) and math.isfinite(v) and low <= v <= high, span


def _indices(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset) and all(
        isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in value
    )


def _polynomial(value: Any) -> bool:
    number = _number(float("-inf"))[0]
    return isinstance(value, str) or (isinstance(value, list | tuple) and bool(value) and all(map(number, value)))


def _profiles(value: Any) -> bool:
    several = value if isinstance(value, list | tuple) else [value]
    return bool(several) and all(isinstance(v, str | Path) or hasattr(v, "tensors") for v in several)


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "threshold": _number(0),
    "computed_steps": _number(1, whole=True),
    "mask_weight": _number(0),
    "warmup": _number(0),
    "last": _number(0, whole=True),
    "max_gap": _number(0, whole=True),
    "cache_ratio": (lambda v: _number(0)[0](v) and 0 < v <= 1, "a number over 0 and up to 1"),
    "boundaries": (_indices, "a list of block indices"),
    "decoupled": (lambda v: isinstance(v, bool), "True or False"),
    "guided": (lambda v: isinstance(v, bool), "True or False"),
    "plan": (_profiles, "a profile file's path, or a Profile, of a method with segments"),
    "profile": (_profiles, "a profile file's path, or a Profile, or a list of these, of one method each"),
    "ratios": (lambda v: isinstance(v, str), "the name of published ratios"),
    "coefficients": (_polynomial, "a list of numbers, highest power first, or the name of a published set"),
    "signal": (lambda v: v in SIGNALS, "one of " + ", ".join(map(repr, SIGNALS))),
    "front": _number(1, whole=True),
    "back": _number(0, whole=True),
    "probe": _number(1, whole=True),
    "max_skips": _number(0, whole=True),
    "upper": _number(1),
    "residual": (lambda v: isinstance(v, bool), "True or False"),
    "contraction": _number(0, 2),
    "reach": _number(0),
    "person_gap": _number(1),
    "background_contraction": _number(0, 2),
    "background_gap": _number(1),
    "interval": _number(1, whole=True),
    "schedule": (_indices, "a list of step indices"),
    "order": _number(0, 6, whole=True),
    "sigma": _number(0, 1),
    "heun": (lambda v: isinstance(v, bool), "True or False"),
    "attention": (lambda v: isinstance(v, bool), "True or False"),
    "feed_forward": (lambda v: isinstance(v, bool), "True or False"),
    "turn": _number(0),
    "share": (lambda v: _number(0)[0](v) and 0 < v <= 1, "a number over 0 and up to 1"),
    "refresh": (_indices, "a list of step indices"),
    "blocks": (lambda v: isinstance(v, str) or (_indices(v) and len(v) > 0), "a list of block indices, or a name"),
    "keep": _number(0, 1),
    "clusters": _number(1, whole=True),
    "variant": (
        lambda v: v in ("average", "newest", "slopes", "polynomial"),
        "'average', 'newest', 'slopes' or 'polynomial'",
    ),
    "beta": _number(0, 1),
    "energy": (lambda v: _number(0)[0](v) and 0 < v <= 1, "a number over 0 and up to 1"),
    "anchors": _number(1, whole=True),
    "growth": _number(0),
    "ridge": _number(0),
    "centred": (lambda v: isinstance(v, bool), "True or False"),
    "budget": (lambda v: _number(0)[0](v) and 0 < v <= 1, "a number over 0 and up to 1"),
    "divisors": (
        lambda v: _indices(v) and len(v) > 0 and min(v) == 1 and list(v) == sorted(set(v)),
        "a list of whole numbers from 1 on, each larger than the one before",
    ),
    "limit": _number(1, whole=True),
    "steps": _number(1, whole=True),
    "branches": (lambda v: v in ("shared", "separate"), "'shared' or 'separate'"),
    "storage_dtype": (lambda v: isinstance(v, torch.dtype) and v.is_floating_point, "a floating-point torch.dtype"),
    "storage_device": (lambda v: isinstance(v, str | torch.device), "a device, such as 'cpu'"),
}


def check(name: str, value: Any) -> None:
    """Raise InputError unless ``value`` (None: not set) may stand under ``name``."""
    if name == "speed" and value is not None:
        speed_of(value)
    if value is None or name not in _RULES:
        return
    accepts, wanted = _RULES[name]
    if not accepts(read(name, value)):
        raise InputError(f"{name}={value!r} can't be used: {name} is {wanted}.")


def read(name: str, value: Any) -> Any:
    if name == "storage_dtype" and isinstance(value, str):
        return getattr(torch, value.removeprefix("torch."), value)
    return value
