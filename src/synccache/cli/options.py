"""Options that several commands share, and how settings are read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError

Steps = Annotated[int, typer.Option(metavar="N", help="Denoising steps a clip, 1 to 1000.")]
Seed = Annotated[int, typer.Option(metavar="N", help="Decides all that the audio leaves open: blinks, sway.")]
Guidance = Annotated[float, typer.Option(metavar="X", help="Weight of the audio; 1: no guidance, twice as fast.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON; no progress bar.")]
Model = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Weights from portrait-train; by default the packaged ones.")
]
Mask = Annotated[
    Path | None,
    typer.Option(metavar="PNG", help="Person mask of the whole photo, white where the person is; by default found."),
]

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
        settings[name] = _value(text.strip())
    return settings


def _value(text: str) -> Any:
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        return json.loads(text)
    except ValueError:
        return text
