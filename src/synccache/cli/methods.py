"""``synccache methods``: what there is to choose from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..errors import InputError
from .catalogue import listed
from .console import say, say_json, say_table
from .options import Json, method_names, nearest

EXAMPLES = """
Examples:

  synccache methods

  synccache methods hicache

  synccache methods --json
"""


def methods(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Only this method, in detail.", autocompletion=method_names),
    ] = None,
    json_: Json = False,
) -> None:
    """List the caching methods, or show one, with settings and defaults."""
    known = {row["name"]: row for row in listed()}
    if name is not None and name.lower() not in known:
        raise InputError(f"{name!r} is not a method.{nearest(name, known)} 'synccache methods' lists them all.")
    chosen = None if name is None else known[name.lower()]
    if json_:
        say_json(list(known.values()) if chosen is None else {**chosen, "example": example(chosen)})
    elif chosen is not None:
        _describe(chosen)
    else:
        rows = [(row["name"], f"{row['summary']}\n{row['paper']}\n{_settings(row)}") for row in known.values()]
        say_table(("method", "what it does, where it comes from, its settings and their defaults"), rows, gap=1)


def _describe(row: dict[str, Any]) -> None:
    say(f"{row['name']}: {row['summary']}")
    facts = [("paper", row["paper"]), ("when", row["gate"]), ("where", row["scope"]), ("how", row["forecaster"])]
    facts += [("default for", f"{family}: {why}") for family, why in row["default_for"].items()]
    facts += [("needs", row["needs"]), ("example", example(row))]
    if row["learns"]:
        facts.append(("profile", f"synccache profile --method {row['name']} --out profile.safetensors"))
    say_table(("", ""), facts)
    if row["settings"]:
        say_table(("setting", "default"), [(name, _shown(value)) for name, value in row["settings"].items()])


def example(row: dict[str, Any]) -> str:
    """A command that uses a method."""
    given = {"computed_steps": " --computed-steps 12", "interval": " --set interval=3"}
    more = next((text for name, text in given.items() if name in row["settings"]), "")
    return f"synccache animate -i me.jpg -a hello.wav -o hello.mp4 -m {row['name']}{more}"


def _settings(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in row["settings"].items()) or "no settings"


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)
