"""What the program says: results on standard output, all else on standard error; errors and warnings in one line."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

terminal = Console(stderr=True)


class Stopped(Exception):
    """Ctrl-C, with what became of the work."""


def say(text: str) -> None:
    """A line of the result."""
    typer.echo(text)


def say_json(content: Any) -> None:
    """The result, for programs."""
    typer.echo(json.dumps(content, indent=1, allow_nan=False))


def say_table(titles: Sequence[str], rows: Iterable[Sequence[str]], gap: int = 0, right: int | None = None) -> None:
    """The result as a table: ``gap`` empty lines between rows, column number ``right`` to the right."""
    table = Table(box=None, padding=(0, 2, gap, 0), header_style="bold", show_header=any(titles))
    for index, title in enumerate(titles):
        table.add_column(title, no_wrap=index == 0, overflow="fold", justify="right" if index == right else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table, markup=False, highlight=False)


def note(text: str) -> None:
    """A line beside the result."""
    terminal.print(" ".join(text.split()), markup=False, highlight=False, soft_wrap=True)


def show_warnings_plainly() -> None:
    """Within ``warnings.catch_warnings()``: warnings meant for users become one line each, once; others are dropped."""
    said: set[str] = set()

    def show(message: Any, category: Any, *_: Any, **__: Any) -> None:
        if str(message) not in said:
            said.add(str(message))
            note(f"warning: {message}")

    warnings.simplefilter("ignore")
    warnings.filterwarnings("always", category=UserWarning)
    warnings.showwarning = show


def shown(path: Path) -> str:
    """A path as people read it: relative where it lies below the working folder."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def lasting(seconds: float) -> str:
    """A length of time in words."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
