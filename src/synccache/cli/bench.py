"""``synccache bench``: measure methods and their controls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from .console import Stopped, say, say_json, shown
from .options import Json, Model
from .progress import CountBar

EXAMPLES = """
Examples:

  synccache bench --suite core --out runs/bench --quick

  synccache bench --suite core --out runs/bench

  synccache bench --suite ablations --out runs/ablations --clips 16

  synccache bench --suite methods --out runs/methods

  synccache bench --suite methods --out runs/two --method foca --method synccache+foca
"""


def bench(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for bench.json, bench.md and bench.png.")
    ],
    suite: Annotated[str, typer.Option(help="What to measure: core, methods or ablations.")] = "core",
    quick: Annotated[bool, typer.Option("--quick", help="Few contenders on 1 or 2 clips.")] = False,
    clips: Annotated[int | None, typer.Option(metavar="N", help="Held-out clips; 16 unless --quick.")] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method", "-m", metavar="NAME", help="In the methods suite, only this one and the controls; repeatable."
        ),
    ] = None,
    model: Model = None,
    json_: Json = False,
) -> None:
    """Measure methods and controls on held-out clips; a run that was stopped goes on where it was."""
    if method and suite != "methods":
        raise InputError(f"--method chooses from the methods suite, not from {suite!r}. Add --suite methods.")
    from ..bench import of_methods, run  # these take seconds to import
    from ..methods import find

    contenders = of_methods([find(name.lower()) for name in method], quick) if method else None
    options = [
        *["--quick"] * quick,
        *(["--clips", str(clips)] if clips else []),
        *(f"--method {m}" for m in method or ()),
    ]
    command = " ".join(["synccache bench --suite", suite, *options])
    with CountBar("runs", shown=not json_) as bar:
        try:
            document = run(
                suite, out, quick=quick, clips=clips, model=model, contenders=contenders, command=command,
                on_progress=bar,
            )  # fmt: skip
        except KeyboardInterrupt:
            raise Stopped(f"finished clips are kept in {shown(out)}; the same command goes on from there") from None
    if json_:
        say_json(document["summary"])
        return
    say((out / "bench.md").read_text(encoding="utf-8"))
    say(f"table {out / 'bench.md'}, plot {out / 'bench.png'}, rows {out / 'bench.json'}")
