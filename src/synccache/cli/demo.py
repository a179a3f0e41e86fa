"""``synccache demo``: the bundled photo says the bundled sentence, uncached and cached."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..animation import Request
from ..errors import InputError
from .animate import run
from .bundled import given_or_bundled
from .console import note
from .options import Json, Model, Seed, Steps

EXAMPLES = """
Examples:

  synccache demo

  synccache demo --out talk --method synccache-linear
"""


def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the files go; made if missing.")] = Path("demo"),
    steps: Steps = 40,
    method: Annotated[str, typer.Option(metavar="NAME", help="Caching method; see 'synccache methods'.")] = "synccache",
    seed: Seed = 0,
    model: Model = None,
    json_: Json = False,
) -> None:
    """Animate the bundled portrait (NASA's Eileen Collins) twice: uncached and cached, side by side."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {out} cannot be made ({error.strerror}); choose another.") from None
    if not json_:
        note("Animating the bundled portrait twice, uncached and cached.")
    with given_or_bundled() as (image, audio):
        request = Request(
            image=image, audio=audio, out=out / "demo.mp4", steps=steps, method=method, compare=True, seed=seed,
            model=model,
        )  # fmt: skip
        run(request, json_)
