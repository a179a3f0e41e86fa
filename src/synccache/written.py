"""Settings as they are written on a command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .errors import InputError

WORDS = {"true": True, "false": False, "none": None, "null": None}


def settings_from(pairs: Sequence[str], **flags: Any) -> dict[str, Any]:
    """A method's settings from ``key=value`` pairs, and from options of their own where those are given.

    Raises:
        InputError: a pair without ``=``, or a setting given twice.
    """
    settings = {name: value for name, value in flags.items() if value is not None}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise InputError(f"--set takes name=value, such as --set max_gap=4, but {pair!r} was given.")
        if name in settings:
            raise InputError(f"{name} was given twice; give it once.")
        settings[name] = read(text.strip())
    return settings


def read(text: str) -> Any:
    """A value as people write it: a number, a word, a list as JSON has it."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        return json.loads(text)
    except ValueError:
        return text
