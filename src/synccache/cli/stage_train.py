"""``synccache stage-train``: train the stage model; resumable at any moment."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from ..defaults import STAGE_BATCH, STAGE_TRAINING_STEPS
from ..errors import InputError
from ..files import check_writable
from .console import Stopped, say, shown
from .progress import CountBar

EXAMPLES = """
Examples:

  synccache stage-train --out runs/stage --compile

  synccache stage-train --out runs/stage --minutes 60 --compile

  synccache stage-train --out runs/more --from src/synccache/stage/assets --compile

  OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 -m synccache stage-train --out runs/stage --compile

  synccache stage-train --out runs/gpu --device cuda --minutes 9 --finish --batch 256 --workers 14 --compile
"""


def stage_train(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Checkpoint, weights, loss.png and sheet.png; made.")],
    steps: Annotated[int, typer.Option(metavar="N", help="Training steps of the whole run.")] = STAGE_TRAINING_STEPS,
    minutes: Annotated[float | None, typer.Option(metavar="M", help="Stop after M minutes, resumable.")] = None,
    finish: Annotated[bool, typer.Option(help="Let the learning rate fall to its end within --minutes.")] = False,
    initial: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FOLDER",
            help="Weights to go on from: the steps are counted on, the optimiser starts anew.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu or cuda.")] = "cpu",
    batch: Annotated[int, typer.Option(metavar="N", help="Clips of a batch at 32x32, 8 frames.")] = STAGE_BATCH,
    workers: Annotated[int, typer.Option(metavar="N", help="Processes that render ahead; for a GPU.")] = 0,
    seed: Annotated[int, typer.Option(metavar="N", help="Of weights, scenes and noise.")] = 0,
    rate: Annotated[float, typer.Option(metavar="X", help="Scale of the learning rates.")] = 1.0,
    save_every: Annotated[float, typer.Option(metavar="SECONDS", help="Time between checkpoints.")] = 300.0,
    compile_blocks: Annotated[
        bool, typer.Option("--compile", help="Compile the blocks: twice as fast; needs a C++ compiler.")
    ] = False,
) -> None:
    """Train the built-in stage model on scenes that are rendered as they are needed."""
    if not 1 <= steps <= 10_000_000:
        raise InputError(f"steps must lie between 1 and 10 million, but is {steps}.")
    if minutes is not None and not (math.isfinite(minutes) and minutes > 0):
        raise InputError(f"minutes must be above 0, but is {minutes}.")
    if finish and minutes is None:
        raise InputError("--finish needs --minutes, in which the learning rate falls.")
    if not 0 < rate <= 10:
        raise InputError(f"rate must lie above 0 and up to 10, but is {rate}.")
    if not 1 <= batch <= 65_536 or not 0 <= workers <= 1024:
        raise InputError(f"batch must be 1 or more, workers 0 or more, but they are {batch} and {workers}.")
    import torch  # this and what follows takes seconds to import

    from ..portrait.pictures import loss_curve
    from ..portrait.speech import Utterances
    from ..stage.files import about, load
    from ..stage.pictures import sample_sheet
    from ..stage.pipeline import StagePipeline
    from ..stage.ranks import joined
    from ..stage.schedule import TrainSettings
    from ..stage.text import StageTextEncoder
    from ..stage.train import train
    from ..stage.transformer import StageTransformer

    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise InputError(f"device must be cpu, or cuda where there is a GPU, but is {device}.")
    models, known = (None, {}) if initial is None else (load(initial), about(initial))
    _make(out)
    recent: list[float] = []
    held_out: list[Utterances] = []

    def step(index: int, loss: float) -> None:
        recent.append(loss)
        del recent[:-100]
        bar(index + 1, steps, f"loss {sum(recent) / len(recent):.4f}")

    def save(
        transformer: StageTransformer, encoder: StageTextEncoder, index: int, losses: list[tuple[int, float]]
    ) -> None:
        loss_curve(losses, out / "loss.png")
        if not held_out:
            held_out.append(Utterances("test", silent=0.0))
        pipe = StagePipeline.of(transformer, encoder)
        pipe.set_progress_bar_config(disable=True)
        sample_sheet(pipe, held_out[0], out / "sheet.png")

    usual = TrainSettings()
    settings = TrainSettings(
        steps=steps, seed=seed, batch=batch, start=int(known.get("step", 0)),
        learning_rate=rate * usual.learning_rate, muon_rate=rate * usual.muon_rate,
    )  # fmt: skip
    with CountBar("training") as bar:
        try:
            train(
                out, settings, models=models, spent=(known.get("hours", 0.0), known.get("clips", 0)),
                minutes=minutes, finish=finish, save_every=save_every, device=device, workers=workers,
                ranks=joined(), compile_blocks=compile_blocks, on_step=step, on_save=save,
            )  # fmt: skip
        except KeyboardInterrupt:
            raise Stopped(f"the last checkpoint in {shown(out)} is kept; the same command goes on from it") from None
    say(f"weights: {shown(out / 'transformer')} and {shown(out / 'text_encoder')}")
    say(f"loss curve: {shown(out / 'loss.png')}")
    say(f"samples: {shown(out / 'sheet.png')}")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be made ({error.strerror}); choose another.") from None
    check_writable(folder / "about.json")
