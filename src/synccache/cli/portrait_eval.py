"""``synccache portrait-eval``: how well the portrait model talks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ..animation.request import check_ranges
from ..defaults import GUIDANCE_SCALE
from ..errors import InputError
from ..files import check_writable
from .bundled import given_or_bundled
from .console import say, say_json
from .options import Guidance, Json, Model, Steps
from .progress import CountBar

EXAMPLES = """
Examples:

  synccache portrait-eval

  synccache portrait-eval --model mine.safetensors --clips 32 --strip samples.png --json
"""


def portrait_eval(
    clips: Annotated[int, typer.Option(metavar="N", help="Held-out people to judge by, 1 to 1000.")] = 16,
    steps: Steps = 40,
    guidance: Guidance = GUIDANCE_SCALE,
    model: Model = None,
    strip: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Also draw samples of held-out people under the truth.")
    ] = None,
    json_: Json = False,
) -> None:
    """Measure lip-sync, background and silence on held-out people and speech, and on the bundled photo."""
    if not 1 <= clips <= 1000:
        raise InputError(f"clips must lie between 1 and 1000, but is {clips}.")
    check_ranges(steps=steps, guidance_scale=guidance)
    if strip is not None:
        check_writable(strip)
    from ..animation import prepare  # these take seconds to import
    from ..animation.report import finite
    from ..portrait.evaluate import evaluate
    from ..portrait.pictures import sample_strip
    from ..portrait.pipeline import PortraitPipeline

    pipe = PortraitPipeline.load(model)
    with given_or_bundled() as (image, audio):
        scene = prepare(image, audio, pipe.transformer.config.image_size)
    with CountBar("people", shown=not json_) as bar:
        found = evaluate(
            pipe, clips=clips, steps=steps, guidance_scale=guidance, photo=(scene.portrait, scene.speech), on_clip=bar
        )
    if strip is not None:
        sample_strip(pipe, strip, steps=steps, guidance_scale=guidance)
    result = finite(found)
    if json_:
        say_json(result)
        return
    rows = list(_flat({k: v for k, v in result.items() if k != "rows"}))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        say(f"{name:<{width}}  {value:.4g}" if isinstance(value, float) else f"{name:<{width}}  {value}")


def _flat(values: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", "-" if value is None else value
