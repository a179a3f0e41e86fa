"""``synccache inspect``: what a model is made of, and what a cache on it would hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..inspection import MODELS
from .console import say, say_json, say_table
from .options import Json

if TYPE_CHECKING:
    from ..inspection import Inspection

EXAMPLES = """
Examples:

  synccache inspect wan2.2-s2v-14b

  synccache inspect wan2.2-s2v-14b --width 832 --height 448 --motion --cache-ratio 1

  synccache inspect hunyuanvideo-avatar --frames 65 --json

  synccache inspect Wan-AI/Wan2.2-T2V-A14B-Diffusers

  synccache inspect path/to/Wan2.2-S2V-14B/config.json --dtype bfloat16
"""


def inspect(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            autocompletion=lambda incomplete: [m for m in MODELS if m.startswith(incomplete.lower())],
            help="A known name (listed without an argument), a hub id, a diffusers folder or a config.json.",
        ),
    ] = None,
    width: Annotated[int | None, typer.Option(metavar="PIXELS", help="By default what the model is made for.")] = None,
    height: Annotated[int | None, typer.Option(metavar="PIXELS", help="By default what the model is made for.")] = None,
    frames: Annotated[int | None, typer.Option(metavar="N", help="Frames of the clip.")] = None,
    motion: Annotated[
        bool, typer.Option("--motion", help="A later clip, which carries tokens of the frames before it.")
    ] = False,
    cache_ratio: Annotated[
        float, typer.Option(metavar="X", help="Part of the residuals that is kept, over 0 and up to 1.")
    ] = 0.4,
    branches: Annotated[
        int | None, typer.Option(metavar="N", help="Guidance branches; by default what the model is run with.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Type of the stored tensors: float32, bfloat16, ... By default what the official code stores.",
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Print a model's blocks, streams, injection sites and the bytes a cache would hold; needs no weights."""
    if model is None:
        if json_:
            say_json(list(MODELS))
        else:
            say_table(("model", "class"), [(name, known.cls) for name, known in MODELS.items()])
        return
    from ..inspection import inspect as look  # takes seconds to import

    found = look(
        model, width=width, height=height, frames=frames, motion=motion, cache_ratio=cache_ratio, branches=branches,
        dtype=dtype,
    )  # fmt: skip
    if json_:
        say_json(found.to_json())
        return
    _describe(found)


def _describe(found: Inspection) -> None:
    size = found.size
    length = f", {size.frames} frames" if size.frames > 1 else ""
    grid = "" if found.grid is None else f"; video tokens {' × '.join(map(str, found.grid))}"
    say(f"{found.model}: {found.cls} (anatomy {found.anatomy}), {_count(found.parameters)} parameters")
    if found.experts > 1:
        say(f"{found.experts} such transformers take turns; what one stored is let go when the other begins")
    say(f"{size.width} × {size.height}{length}{', later clip' if size.motion else ''}{grid}")
    for run in found.blocks:
        streams = "; ".join(f"{name} {tokens} tokens × {width}" for name, (tokens, width) in run.streams.items())
        say(f"blocks {run.first}-{run.last}: {run.last - run.first + 1} {run.cls}, {streams}")
    say(f"injection after blocks {', '.join(map(str, found.sites)) or '- (none)'}")
    rows = [
        (f"blocks {part.first}-{part.last}", n, size_of(b)) for part in found.segments for n, b in part.streams.items()
    ]
    say_table(("segment", "stream", "per branch"), rows, right=2)
    kept = ", ".join(f"{k.first}-{k.last}" for k in found.kept)
    count, of = len(found.kept), len(found.segments)
    say(f"everything kept: {size_of(found.segment_bytes)} per branch in {found.dtype} (another type: --dtype)")
    say(f"cache ratio {found.cache_ratio:g}: {count} of {of} kept ({kept}): {size_of(found.kept_bytes)} per branch")
    parts = f"{found.branches} × {size_of(found.kept_bytes)} + {size_of(found.probe_bytes)} for the probe"
    say(f"in all at that ratio: {size_of(found.total_bytes)} = {parts}; a linear forecast holds the residuals twice")


def size_of(count: int) -> str:
    """Bytes as people read them."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**28 else f"{count / 2**20:.2f} MiB"


def _count(number: int) -> str:
    return f"{number / 1e9:.1f} billion" if number >= 10**9 else f"{number / 1e6:.1f} million"
