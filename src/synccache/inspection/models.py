"""Models by name, hub address or path."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ..errors import InputError
from .calls import CALLS
from .known import MODELS
from .model import OURS, Model
from .official import CLASSES, translated

MAX_BLOCKS, MAX_BYTES = 1000, 2**20
INSIDE = ("", "transformer", "high_noise_model")  # folders in which a transformer's config may lie
PAIRED = ("transformer_2", "low_noise_model")


def find_model(name_or_path: str) -> Model:
    """The model of that name or hub address, or the one that lies at that path.

    Args:
        name_or_path: a name in ``MODELS``, or an address on the hub that ends in one
            (``Wan-AI/Wan2.2-T2V-A14B-Diffusers``); a folder of diffusers or of an official release, a transformer's
            folder, or its ``config.json``.

    Raises:
        InputError: there is none of these, or the config is of no class whose call is known.
    """
    if name_or_path.lower() in MODELS:
        return MODELS[name_or_path.lower()]
    path = Path(name_or_path)
    if path.exists():
        return _at(path.parent if path.name == "model_index.json" else path)
    name = _plain(name_or_path)
    if name in MODELS:
        return MODELS[name]
    from ..methods.settings import unknown

    raise InputError(unknown("known model, nor a path", name_or_path if "/" in name_or_path else name, MODELS))


def _plain(address: str) -> str:
    """The last part of an address, without what says in which form or of which month it is."""
    last = address.rstrip("/").rpartition("/")[2].lower()
    return re.sub(r"-\d{4}$", "", re.sub(r"-diffusers.*$", "", last))


def _at(path: Path) -> Model:
    candidates = [path / inside / "config.json" for inside in INSIDE] if path.is_dir() else [path]
    file = next((p for p in candidates if p.is_file()), None)
    if file is None:
        raise InputError(
            f"{path} holds neither config.json nor transformer/config.json. Give the folder of a pipeline or of a "
            "transformer."
        )
    config = _read(file)
    cls = config.get("_class_name")
    if not isinstance(cls, str) or cls not in {*CALLS, *CLASSES} - (set(OURS) - set(CLASSES)):
        known = ", ".join(sorted({*CALLS, *CLASSES} - (set(OURS) - set(CLASSES))))
        raise InputError(f"{file} is of the class {cls!r}, whose call isn't known here. Known are: {known}.")
    for key, value in config.items():
        if "layers" in key and isinstance(value, int) and value > MAX_BLOCKS:
            raise InputError(f"{file} has {key}={value}, but at most {MAX_BLOCKS} are built. Is it a transformer's?")
    experts = 2 if any((path / second / "config.json").is_file() for second in PAIRED) else 1
    name = file.parent.name if path.is_file() else path.name
    if cls in CLASSES:
        cls, given = translated(config, file)
        return Model(name, cls, given, experts=experts, dtype="float32")
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if not k.startswith("_")}
    return Model(name, cls, given, experts=experts)


def _read(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise InputError(f"{file} is too large for a config ({file.stat().st_size} bytes). Give its config.json.")
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file} is no JSON config ({error}). Give a transformer's config.json.") from None
    if not isinstance(config, dict):
        raise InputError(f"{file} holds a {type(config).__name__}, not a config. Give a transformer's config.json.")
    return config
