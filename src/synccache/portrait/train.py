"""Train the portrait model on rendered clips: one command, resumable at any moment.

The objective is rectified flow in the clean-clip parametrisation: the model predicts ``x_0``, weighted towards the
mouth and by 1/max(t, 0.15). Beside it, the lips are read from the tokens after every audio module, so that what is
heard reaches the mouth. Hidden matrices are optimised with Muon, everything else with AdamW; the weights that are kept
are an exponential moving average.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..defaults import TRAINING_STEPS
from ..errors import InputError
from ..files import whole_file
from .data import loader, to_pixels, with_presence
from .lips import LipReader
from .muon import Muon
from .transformer import PortraitConfig, PortraitTransformer

Source = Callable[[int, int, int, int, int], Iterator[dict[str, Tensor]]]  # seed, first batch, batch size, frames, size


@dataclass(frozen=True)
class TrainSettings:
    """What a training run depends on; stored in its checkpoint.

    Noise levels are ``sigmoid(N(time_mean, time_std))``, spread as the shifted sampler visits them: where the noise is
    high the head's motion is decided. The frames that a clip continues lose up to ``worn`` in colour, contrast and
    noise, since at work they are generated ones. ``phases`` lists (share of the run, frames a clip, clips a
    batch): short clips first, since faces are learned from many people rather than from many frames.
    """

    steps: int = TRAINING_STEPS
    seed: int = 0
    learning_rate: float = 1.5e-3
    muon_rate: float = 2e-2
    warmup: int = 100
    mouth_weight: float = 15.0
    person_weight: float = 1.0
    background_weight: float = 1.0
    lips_weight: float = 0.3
    ema: float = 0.998
    drop_audio: float = 0.12
    continued: float = 0.5
    worn: float = 0.15
    time_mean: float = 0.8
    time_std: float = 1.4
    phases: tuple[tuple[float, int, int], ...] = ((0.25, 6, 8), (0.75, 12, 4))

    def phase(self, step: int) -> tuple[int, int, int]:
        """(index, frames, batch) that ``step`` trains with."""
        end = 0.0
        for index, (share, frames, batch) in enumerate(self.phases):
            end += share
            if step < round(end * self.steps) or index == len(self.phases) - 1:
                return index, frames, batch
        raise AssertionError("phases is empty")


def learning_rate_scale(step: int, settings: TrainSettings) -> float:
    """Linear warm-up, then cosine decay to 2 %."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def optimizers(model: PortraitTransformer, reader: LipReader, settings: TrainSettings) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside blocks and audio modules, AdamW for the rest."""
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inside = name.startswith(("blocks.", "audio_modules."))
        (hidden if inside and parameter.ndim == 2 else rest).append(parameter)
    return [
        Muon(hidden, lr=settings.muon_rate),
        torch.optim.AdamW(
            [*rest, *reader.parameters()], lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=0.0
        ),
    ]


def loss_of(
    model: nn.Module, reader: LipReader, batch: dict[str, Tensor], settings: TrainSettings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Errors on one batch from ``data.loader``: of the predicted clean clip, weighted, and of the lips' reader."""
    clean = to_pixels(batch["frames"].numpy()).transpose(1, 2)
    portrait = to_pixels(batch["portrait"].numpy())
    before = to_pixels(batch["before"].numpy())
    count = clean.shape[0]
    time_ = torch.sigmoid(settings.time_mean + settings.time_std * torch.randn(count, generator=generator))
    noise = torch.randn(clean.shape, generator=generator)
    t = time_.reshape(-1, 1, 1, 1, 1)
    noisy = (1 - t) * clean + t * noise
    present = torch.rand(count, 1, 1, 1, generator=generator) >= settings.drop_audio
    heard = with_presence(batch["features"]) * present
    worn = _worn(before, settings.worn, generator).flatten(1, 2)
    motion = worn if torch.rand((), generator=generator) < settings.continued else None
    velocity = model(noisy, time_ * 1000, heard, portrait, motion)
    predicted = noisy - t * velocity
    person = batch["person"]
    weight = 1 + settings.mouth_weight * batch["mouth"]
    weight = weight + settings.person_weight * person + settings.background_weight * (1 - person)
    error = (predicted - clean).square().mean(dim=(1, 2)) * weight
    lips = reader(batch["mouth"], batch["lips"], present.flatten().float())
    return (error.mean(dim=(1, 2)) / time_.clamp_min(0.15)).mean(), lips


def _worn(frames: Tensor, worn: float, generator: torch.Generator) -> Tensor:
    """Frames [B, T, C, H, W] as generated ones are: tinted, with less or more contrast, and noisy."""
    wear = worn * torch.rand(len(frames), 1, 1, 1, 1, generator=generator)
    tint, contrast = (torch.randn(len(frames), 1, frames.shape[2], 1, 1, generator=generator) for _ in range(2))
    return frames * (1 + wear * contrast) + wear * (tint + torch.randn(frames.shape, generator=generator))


class Ema:
    """Exponential moving average of a model's parameters, with a warm-up of the decay."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (step + 1) / (step + 10))
        current = model.state_dict()
        torch._foreach_lerp_(list(self.state.values()), [current[k] for k in self.state], 1 - decay)


def _read(checkpoint: Path) -> dict[str, Any]:
    advice = "Delete it, or choose another folder."
    try:
        saved = torch.load(checkpoint, weights_only=True)
        missing = {"model", "reader", "ema", "optimizers", "step", "losses", "seconds", "settings"} - set(saved)
    except Exception as error:  # torch raises half a dozen kinds here
        raise InputError(f"{checkpoint} cannot be read ({type(error).__name__}). {advice}") from None
    if missing:
        raise InputError(f"{checkpoint} is no checkpoint of portrait-train: it lacks {sorted(missing)}. {advice}")
    return saved


def train(
    out: Path,
    settings: TrainSettings,
    *,
    config: PortraitConfig | None = None,
    resume: bool = True,
    initial: Path | None = None,
    minutes: float | None = None,
    save_every: float = 180.0,
    on_step: Callable[[int, float], None] | None = None,
    on_save: Callable[[PortraitTransformer, int, list[tuple[int, float]]], None] | None = None,
    source: Source = loader,
    compile_blocks: bool = False,
) -> Path:
    """Train into the folder ``out`` and return the path of the weights.

    Writes ``checkpoint.pt`` (everything needed to go on), ``portrait.safetensors`` (EMA, fp16), ``loss.json``.

    Args:
        out: folder; made if missing.
        settings: see ``TrainSettings``; a resumed run keeps those of its checkpoint, but for ``steps``.
        initial: weights to start from instead of random ones.
        minutes: stop after this long, keeping a checkpoint; None trains to the end.
        save_every: seconds between checkpoints.
        on_step: called with (step, loss).
        on_save: called with (EMA model, step, losses) whenever a checkpoint is written.
        source: where batches come from, called as ``data.loader`` is.
        compile_blocks: let ``torch.compile`` fuse each block; a fifth faster on a CPU, and needs a C++ compiler.

    Raises:
        InputError: the folder's checkpoint or the initial weights can't be used.
    """
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    torch.manual_seed(settings.seed)
    model = PortraitTransformer.load(initial).train() if initial else PortraitTransformer(config)
    first, losses, ema = 0, [], Ema(model, settings.ema)
    reader = LipReader(model)
    stack = optimizers(model, reader, settings)
    seconds_before = 0.0
    if resume and checkpoint.is_file():
        saved = _read(checkpoint)
        try:
            model.load_state_dict(saved["model"])
            reader.load_state_dict(saved["reader"])
        except RuntimeError:
            raise InputError(f"{checkpoint} is of a model with another structure. Choose another folder.") from None
        ema.state = saved["ema"]
        for optimizer, state in zip(stack, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        first, losses, seconds_before = saved["step"], saved["losses"], saved["seconds"]
        kept = json.loads(saved["settings"])
        kept["phases"] = tuple(tuple(p) for p in kept["phases"])
        settings = replace(TrainSettings(**kept), steps=settings.steps)
    if compile_blocks:
        for block in model.blocks:
            block.compile(dynamic=False)
    base_rates = [settings.muon_rate, settings.learning_rate]
    started = saved_at = time.monotonic()

    def save(step: int) -> None:
        seconds = seconds_before + time.monotonic() - started
        state = {
            "model": model.state_dict(),
            "reader": reader.state_dict(),
            "ema": ema.state,
            "optimizers": [o.state_dict() for o in stack],
            "step": step,
            "losses": losses,
            "seconds": seconds,
            "settings": json.dumps(asdict(settings)),
        }
        with whole_file(checkpoint) as partial:
            torch.save(state, partial)
        averaged = PortraitTransformer(model.config)
        averaged.load_state_dict(ema.state)
        with whole_file(out / "portrait.safetensors") as partial:
            averaged.save(partial, metadata={"step": str(step), "hours": f"{seconds / 3600:.2f}"})
        (out / "loss.json").write_text(json.dumps(losses))
        if on_save:
            on_save(averaged.eval(), step, losses)

    batches, current = None, -1
    generator = torch.Generator()
    step = first
    for step in range(first, settings.steps):
        index, frames, size = settings.phase(step)
        if index != current:
            batches, current = source(settings.seed, step, size, frames, model.config.image_size), index
        assert batches is not None
        generator.manual_seed(settings.seed * 1_000_003 + step)
        scale = learning_rate_scale(step, settings)
        for optimizer, rate in zip(stack, base_rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * scale
        loss, lips = loss_of(model, reader, next(batches), settings, generator)
        for optimizer in stack:
            optimizer.zero_grad(set_to_none=True)
        (loss + settings.lips_weight * lips).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in stack:
            optimizer.step()
        ema.update(model, step)
        value = float(loss.detach())
        losses.append((step, value))
        if on_step:
            on_step(step, value)
        now = time.monotonic()
        if minutes is not None and now - started > 60 * minutes:
            break
        if now - saved_at > save_every:
            save(step + 1)
            saved_at = time.monotonic()
    save(step + 1)
    return out / "portrait.safetensors"
