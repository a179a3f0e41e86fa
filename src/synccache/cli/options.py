"""Options that several commands share, and how settings are read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError


def method_names(incomplete: str = "") -> list[str]:
    """Names of methods that begin so, for completion in the shell."""
    from .catalogue import listed

    return [row["name"] for row in listed() if row["name"].startswith(incomplete.lower())]


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence with the known name that is most like ``name``, or nothing."""
    near = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


Method = Annotated[
    str,
    typer.Option(
        "--method", "-m", metavar="NAME", parser=str.lower, autocompletion=method_names,
        help="Caching method, by default synccache; see 'synccache methods'. 'none' computes all steps.",
    ),
]  # fmt: skip
Steps = Annotated[int, typer.Option("--steps", "-n", metavar="N", help="Denoising steps a clip, 1 to 1000.")]
Seed = Annotated[
    int, typer.Option("--seed", "-s", metavar="N", help="Decides all that the audio leaves open: blinks, sway.")
]
Photo = Annotated[
    Path | None,
    typer.Option(
        "--image", "-i", metavar="PHOTO",
        help="A photo with one upright face: JPEG, PNG, HEIC, ... By default a bundled one.",
    ),
]  # fmt: skip
Sound = Annotated[
    Path | None,
    typer.Option(
        "--audio", "-a", metavar="SOUND",
        help="Speech, 0.1 s to 10 min: WAV, MP3, OGG, a video, ... By default a bundled one.",
    ),
]  # fmt: skip
Device = Annotated[
    str, typer.Option("--device", "-d", metavar="NAME", help="Where the model runs: cpu, cuda, cuda:1, mps.")
]
Guidance = Annotated[float, typer.Option(metavar="X", help="Weight of the audio; 1: no guidance, twice as fast.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from the finished clips of the same command, where it was stopped.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON; no progress bar.")]
Model = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Weights from portrait-train; by default the packaged ones.")
]
Mask = Annotated[
    Path | None,
    typer.Option(metavar="PNG", help="Person mask of the whole photo, white where the person is; by default found."),
]


@contextmanager
def naming_the_command() -> Iterator[None]:
    """Inside, an error about a profile that is missing or doesn't fit also says which command makes one."""
    from ..methods.remedy import ProfileNeeded

    try:
        yield
    except ProfileNeeded as error:
        more = "".join(f" --set {name}={str(value).lower()}" for name, value in error.settings.items())
        names = error.methods or ("NAME",)
        commands = " or ".join(f"synccache profile --method {name}{more} --out profile.safetensors" for name in names)
        raise InputError(f"{error} On the command line: {commands}") from None
