"""The command line of the full-size benchmark."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ...cli.console import note, say, say_json
from ...cli.options import Json
from ...cli.progress import CountBar
from ...errors import InputError, SynccacheError
from ...memory import keep_freed_memory
from . import report
from .run import measure
from .subjects import SCALES, SUBJECTS

EXAMPLES = """
Examples:

  python -m synccache.bench.fullsize

  python -m synccache.bench.fullsize --models wan2.2-s2v-14b --steps 10 --repeats 1 --out runs/fullsize

  python -m synccache.bench.fullsize --models wan2.1-t2v-1.3b,flux.1-dev --skip 4,5,7,8 --steps 10 --json
"""


def fullsize(
    models: Annotated[str, typer.Option(metavar="NAMES", help="Separated by commas.")] = ",".join(SUBJECTS),
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for fullsize.json and fullsize.md.")] = None,
    device: Annotated[str | None, typer.Option(help="cuda or cpu; by default the GPU, if there is one.")] = None,
    steps: Annotated[int, typer.Option(metavar="N", help="Denoising steps of a run of one guidance branch.")] = 40,
    skip: Annotated[
        str | None, typer.Option(metavar="LIST", help="Skipped steps, from 0; by default three of four after a tenth.")
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(SCALES)}; by default full on a GPU, small (fewer blocks) on a processor."),
    ] = None,
    repeats: Annotated[int, typer.Option(metavar="N", help="Runs of each contender, in turns.")] = 2,
    clock: Annotated[
        str, typer.Option(help="wall, or processor: time computed, not waited for, on a machine that does other work.")
    ] = "wall",
    json_: Json = False,
) -> None:
    """Measure what caching costs and brings on transformers with random weights: seconds and bytes, never quality."""
    if clock not in ("wall", "processor"):
        raise InputError(f"--clock takes wall or processor, but {clock!r} was given.")
    names = [n.strip() for n in models.split(",") if n.strip()]
    with CountBar("runs", shown=not json_) as bar:
        found = measure(
            names, device=device, scale=scale, steps=steps, skip=_listed(skip), repeats=repeats,
            clock="processor" if clock == "processor" else "wall", on_progress=bar,
        )  # fmt: skip
    if out is not None:
        report.write(found, out)
    if json_:
        say_json(found)
        return
    say(report.text(found))
    if out is not None:
        say(f"table {out / 'fullsize.md'}, rows {out / 'fullsize.json'}")


def _listed(skip: str | None) -> list[int] | None:
    if skip is None:
        return None
    parts = [p.strip() for p in skip.split(",") if p.strip()]
    if not all(p.isdecimal() for p in parts):
        raise InputError(f"--skip takes step indices, such as 4,5,6, but {skip!r} was given.")
    return [int(p) for p in parts]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code: 0, or 2 for what the user should change."""
    keep_freed_memory()
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
    app.command(epilog=EXAMPLES)(fullsize)
    args = list(sys.argv[1:] if arguments is None else arguments)
    try:
        command = typer.main.get_command(app)
        code = command.main(args=args, prog_name="python -m synccache.bench.fullsize", standalone_mode=False)
    except SynccacheError as error:
        note(f"error: {error}")
        return 2
    except Exception as error:
        if not hasattr(error, "format_message"):  # a bug of ours
            raise
        note(f"error: {error.format_message()}")  # wrong usage, as Typer and Click say it
        return 2
    return code if isinstance(code, int) else 0
