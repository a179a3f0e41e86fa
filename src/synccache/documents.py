"""JSON files from outside: size, schema and version are checked before anything is believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import InputError

_LIMIT = 16 * 2**20


def read_document(path: str | Path, schema: str, version: int) -> dict[str, Any]:
    """The object in a JSON file whose ``schema`` and ``version`` are as expected.

    Raises:
        InputError: the file is missing, too large, not JSON, or of another schema or version.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file {path}. A {schema} file was expected there.")
    if path.stat().st_size > _LIMIT:
        raise InputError(f"{path} has {path.stat().st_size} bytes; a {schema} file has at most {_LIMIT}.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not a JSON file ({error}).") from None
    if not isinstance(found, dict) or found.get("schema") != schema:
        what = found.get("schema", "no schema") if isinstance(found, dict) else type(found).__name__
        raise InputError(f"{path} holds {what!r}, not {schema!r}. Give a file of that kind.")
    if found.get("version") != version:
        raise InputError(f"{path} has version {found.get('version')!r}; this synccache reads version {version}.")
    return found


def write_document(path: str | Path, schema: str, version: int, content: dict[str, Any]) -> Path:
    """Write an object with its schema and version; an existing file is replaced only by a whole one."""
    path = Path(path)
    text = json.dumps({"schema": schema, "version": version, **content}, indent=1)
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"{path} can't be written ({error.strerror}).") from None
    return path
