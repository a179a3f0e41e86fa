"""``synccache stage-eval``: how well the stage model does what it is told, and how hard it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ..animation.request import check_ranges
from ..defaults import STAGE_GUIDANCE_SCALE, STAGE_STEPS
from ..errors import InputError
from ..files import check_writable
from .console import say, say_json, shown
from .options import Guidance, Json, Steps
from .progress import CountBar

EXAMPLES = """
Examples:

  synccache stage-eval

  synccache stage-eval --model runs/stage --clips 64 --sheet samples.png --json

  synccache stage-eval --train-finder finder.safetensors
"""


def stage_eval(
    clips: Annotated[int, typer.Option(metavar="N", help="Held-out scenes to judge by, 2 to 1000.")] = 32,
    steps: Steps = STAGE_STEPS,
    guidance: Guidance = STAGE_GUIDANCE_SCALE,
    model: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Weights of stage-train.")] = None,
    finder: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What judges; the packaged one if left out.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(metavar="PNG", help="Also draw samples beside the truth.")] = None,
    train_to: Annotated[
        Path | None, typer.Option("--train-finder", metavar="FILE", help="Only train what judges, and write it.")
    ] = None,
    json_: Json = False,
) -> None:
    """Measure what the stage model shows, says and hears on held-out scenes, against the truth and controls."""
    if not 2 <= clips <= 1000:
        raise InputError(f"clips must lie between 2 and 1000, but is {clips}.")
    check_ranges(steps=steps, guidance_scale=guidance)
    for path in (sheet, train_to):
        if path is not None:
            check_writable(path)
    if train_to is not None:
        _train(train_to)
        return
    from ..animation.report import finite  # this and what follows takes seconds to import
    from ..portrait.speech import Utterances
    from ..stage.evaluate import evaluate
    from ..stage.files import load
    from ..stage.finder import Finder
    from ..stage.pictures import sample_sheet
    from ..stage.pipeline import StagePipeline

    pipe = StagePipeline.packaged() if model is None else StagePipeline.of(*load(model))
    pipe.set_progress_bar_config(disable=True)
    judge = Finder.packaged() if finder is None else Finder.load(finder)
    speech = Utterances("test", silent=0.0)
    found = finite(evaluate(pipe, judge, speech, clips=clips, steps=steps, guidance_scale=guidance))
    if sheet is not None:
        sample_sheet(pipe, speech, sheet, steps=steps)
    if json_:
        say_json(found)
        return
    rows = list(_flat(found))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        say(f"{name:<{width}}  {value:.4g}" if isinstance(value, float) else f"{name:<{width}}  {value}")


def _train(path: Path) -> None:
    from ..portrait.speech import Utterances
    from ..stage.finder import train_finder

    steps = 1500
    with CountBar("steps") as bar:
        made = train_finder(
            Utterances("train", silent=0.04), steps, on_step=lambda step, loss: bar(step + 1, steps, f"loss {loss:.3f}")
        )
    made.save(path)
    say(f"finder: {shown(path)}")


def _flat(values: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", "-" if value is None else value
