"""``synccache portrait-train``: train the portrait model; resumable at any moment."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from ..defaults import TRAINING_STEPS
from ..errors import InputError
from ..files import check_writable
from .console import Stopped, say, shown
from .progress import CountBar

EXAMPLES = """
Examples:

  synccache portrait-train --out runs/portrait

  synccache portrait-train --out runs/portrait --minutes 60

  synccache portrait-train --out runs/tuned --initial mine.safetensors
"""


def portrait_train(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Checkpoint, weights, loss.png and strip.png; made.")
    ],
    steps: Annotated[int, typer.Option(metavar="N", help="Training steps of the whole run.")] = TRAINING_STEPS,
    minutes: Annotated[float | None, typer.Option(metavar="M", help="Stop after M minutes, resumable.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the folder's checkpoint, if there is one.")] = True,
    initial: Annotated[Path | None, typer.Option(metavar="FILE", help="Weights to start from.")] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of weights, clips and noise.")] = 0,
    rate: Annotated[
        float, typer.Option(metavar="X", help="Scale of the learning rates; below 1 to go on from good weights.")
    ] = 1.0,
    save_every: Annotated[float, typer.Option(metavar="SECONDS", help="Time between checkpoints.")] = 180.0,
    compile_blocks: Annotated[
        bool, typer.Option("--compile", help="Compile the blocks: a fifth faster; needs a C++ compiler.")
    ] = False,
) -> None:
    """Train the built-in portrait model on talking portraits that are rendered as they are needed."""
    if not 1 <= steps <= 10_000_000:
        raise InputError(f"steps must lie between 1 and 10 million, but is {steps}.")
    if minutes is not None and not (math.isfinite(minutes) and minutes > 0):
        raise InputError(f"minutes must be above 0, but is {minutes}.")
    if not 0 < rate <= 10:
        raise InputError(f"rate must lie above 0 and up to 10, but is {rate}.")
    from ..portrait.pictures import loss_curve, sample_strip  # these take seconds to import
    from ..portrait.pipeline import PortraitPipeline
    from ..portrait.train import TrainSettings, train
    from ..portrait.transformer import PortraitTransformer

    if initial is not None:
        PortraitTransformer.load(initial)  # refuses what is no model, before a folder is made
    _make(out)
    recent: list[float] = []

    def step(index: int, loss: float) -> None:
        recent.append(loss)
        del recent[:-50]
        bar(index + 1, steps, f"loss {sum(recent) / len(recent):.4f}")

    def save(model: PortraitTransformer, index: int, losses: list[tuple[int, float]]) -> None:
        loss_curve(losses, out / "loss.png")
        sample_strip(PortraitPipeline(model), out / "strip.png")

    usual = TrainSettings()
    settings = TrainSettings(
        steps=steps, seed=seed, learning_rate=rate * usual.learning_rate, muon_rate=rate * usual.muon_rate
    )
    with CountBar("training") as bar:
        try:
            weights = train(
                out, settings, resume=resume, initial=initial, minutes=minutes,
                save_every=save_every, on_step=step, on_save=save, compile_blocks=compile_blocks,
            )  # fmt: skip
        except KeyboardInterrupt:
            raise Stopped(f"the last checkpoint in {shown(out)} is kept; the same command goes on from it") from None
    say(f"weights: {shown(weights)}")
    say(f"loss curve: {shown(out / 'loss.png')}")
    say(f"samples: {shown(out / 'strip.png')}")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be made ({error.strerror}); choose another.") from None
    check_writable(folder / "portrait.safetensors")
