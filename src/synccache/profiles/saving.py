"""Settings as a JSON file, and back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..documents import read_document, write_document
from ..errors import InputError
from ..methods.names import listed
from .profile import Profile

SCHEMA, VERSION = "synccache.settings", 1
FILES = ("plan", "profile")  # settings that name files


def save_settings(method: str, settings: Mapping[str, Any], path: str | Path) -> Path:
    """Write a method's name and settings, for ``apply(pipe, settings=path)``.

    Paths of profiles are written relative to the file. A profile that lives in memory is saved beside it, as
    ``<file>-<method>.safetensors``.

    Raises:
        InputError: a setting has no form in a file, or a file can't be written.
    """
    path = Path(path)
    given = {name: settings[name] for name in sorted(settings, key=lambda n: n in FILES)}  # what writes files last
    content = {name: plain(name, value, path) for name, value in given.items() if value is not None}
    return write_document(path, SCHEMA, VERSION, {"method": method, "settings": content})


def refuse_to_save(method: str, settings: Mapping[str, Any], path: str | Path) -> Path:
    """Stands in for ``save_settings`` beside a ``Method`` by hand.

    Raises:
        InputError: always.
    """
    raise InputError("A method composed in Python can't be saved as settings; save the code that makes it.")


def load_settings(path: str | Path) -> tuple[str, dict[str, Any]]:
    """Method and settings from a file that ``save_settings`` wrote; paths are resolved against its folder.

    Raises:
        InputError: it is missing, damaged, or has no settings in it.
    """
    saved = read_document(path, SCHEMA, VERSION)
    method, settings = saved.get("method"), saved.get("settings")
    if not isinstance(method, str) or not isinstance(settings, dict):
        raise InputError(f"{path} has no settings in it. Write it with handle.save(path).")
    return method, {name: resolved(name, value, Path(path).parent) for name, value in settings.items()}


def plain(name: str, value: Any, path: Path) -> Any:
    """One setting's value as JSON has it, in the settings file ``path``.

    Raises:
        InputError: it has no such form.
    """
    if isinstance(value, Profile):
        value = value.save(path.with_name(f"{path.stem}-{value.method}.safetensors"))
    if name in FILES and isinstance(value, str | Path):
        return relative(Path(value), path.parent)
    if isinstance(value, torch.dtype | torch.device):
        return str(value).removeprefix("torch.")
    if isinstance(value, list | tuple):
        return [plain(name, v, path) for v in value]
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, str | int | float | bool):
        return value
    raise InputError(f"{name}={value!r} has no form in a settings file. Leave it out and give it when applying.")


def resolved(name: str, value: Any, folder: Path) -> Any:
    """The inverse of ``plain``, as far as settings need it: paths from ``folder``."""
    if name not in FILES:
        return value
    found = [str(folder / one) if isinstance(one, str) else one for one in listed(value)]
    return found if isinstance(value, list) else next(iter(found), None)


def relative(file: Path, folder: Path) -> str:
    """``file`` as seen from ``folder``, with forward slashes; absolute where they lie on two drives."""
    try:
        return Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix()
    except ValueError:
        return str(file.resolve())
