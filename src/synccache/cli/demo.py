"""``synccache demo``: the bundled photo says the bundled sentence, uncached and cached."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..animation.request import Request
from .animate import run
from .bundled import given_or_bundled
from .console import note
from .options import Device, Json, Method, Model, Resume, Seed, Steps

EXAMPLES = """
Examples:

  synccache demo

  synccache demo --out talk --method synccache-linear
"""


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the files go; made if missing.")
    ] = Path("demo"),
    steps: Steps = 40,
    method: Method = "synccache",
    seed: Seed = 0,
    model: Model = None,
    device: Device = "cpu",
    resume: Resume = False,
    json_: Json = False,
) -> None:
    """Animate the bundled portrait (NASA's Eileen Collins) twice: uncached and cached, side by side."""
    if not json_:
        note("Animating the bundled portrait twice, uncached and cached.")
    with given_or_bundled() as (image, audio):
        request = Request(
            image=image, audio=audio, out=out / "demo.mp4", steps=steps, method=method, compare=True, seed=seed,
            model=model, device=device, overwrite=True, resume=resume,
        )  # fmt: skip
        run(request, json_)
