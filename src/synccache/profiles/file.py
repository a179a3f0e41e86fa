"""Profile files: safetensors with a checked header. What comes from outside is believed only after that."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..methods.remedy import ProfileNeeded

SCHEMA, VERSION, LIMIT = "synccache.profile", 1, 256 * 2**20
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.bool)


def write_profile(path: Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """Write tensors under a header, with schema and version; an existing file is replaced only by a whole one.

    Raises:
        InputError: it can't be written.
    """
    from safetensors import SafetensorError  # only here, so that the core imports torch alone
    from safetensors.torch import save

    text = json.dumps({"schema": SCHEMA, "version": VERSION, **header})
    part = path.with_name(path.name + ".part")
    try:
        whole = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
        part.write_bytes(save(whole, {"synccache": text}))  # save_file lets the owner alone read it
        part.replace(path)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        raise InputError(f"{path} can't be written ({getattr(error, 'strerror', None) or error}).") from None
    return path


def read_profile(path: Path, method: str | None = None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a profile file. ``method`` is who needs it, for the errors.

    Raises:
        ProfileNeeded: it is missing, too large, no profile of this version, or damaged.
    """
    who = () if method is None else (method,)
    header, tensors = _read(path, who)
    if header.get("schema") != SCHEMA:
        raise ProfileNeeded(f"{path} holds {header.get('schema', 'no schema')!r}, not {SCHEMA!r}.", *who)
    if header.get("version") != VERSION:
        found = header.get("version")
        raise ProfileNeeded(f"{path} has version {found!r}; this synccache reads version {VERSION}.", *who)
    damage = _damage(header, tensors)
    if damage:
        raise ProfileNeeded(f"{path} is a damaged profile ({damage}).", *who)
    return header, tensors


def _read(path: Path, who: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a safetensors file."""
    from safetensors import safe_open

    if not path.is_file():
        raise ProfileNeeded(f"There is no file {path}. A profile was expected there.", *who)
    if path.stat().st_size > LIMIT:
        raise ProfileNeeded(f"{path} has {path.stat().st_size} bytes; a profile has at most {LIMIT}.", *who)
    try:
        with safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {}).get("synccache", "{}")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except Exception as error:  # whatever a damaged file leads to
        raise ProfileNeeded(f"{path} is not a readable safetensors file ({error}).", *who) from None
    try:
        header = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        header = None
    return header if isinstance(header, dict) else {}, tensors


def _damage(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str | None:
    """What is wrong with the header or the tensors, or None."""
    for name, kind in (("method", str), ("model", dict), ("steps", int), ("timesteps", list), ("source", dict)):
        if not isinstance(header.get(name), kind):
            return f"its header has no {name}"
    if not isinstance(header.get("scheduler", 0), str | None):
        return "its header has no scheduler"
    if not isinstance(header.get("weights"), str | None) or not isinstance(header.get("settings", {}), dict):
        return "its header's weights or settings are of a wrong kind"
    times = header["timesteps"]
    if len(times) != header["steps"] or not all(isinstance(t, int | float) and math.isfinite(t) for t in times):
        return f"{len(times)} timesteps for {header['steps']} steps"
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            return f"{name} is of {tensor.dtype}"
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            return f"{name} is not finite"
    return None if tensors else "it holds no tensor"
