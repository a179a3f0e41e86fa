"""Train the stage model on rendered scenes: one command, resumable at any moment.

The objective is rectified flow in the clean-clip parametrisation: the model predicts ``x_0``, weighted by
1/max(t, 0.12), towards mouths and people. Matrices inside blocks and injectors are optimised with Muon, everything else
with AdamW; the weights that are kept are an exponential moving average. A batch is a function of the seed and the
step: its task, its shape, its scenes, its noise.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..portrait.muon import Muon
from .averages import Ema, averages
from .data import Batch, World
from .feed import Steps, batches
from .files import save
from .layout import PAIR
from .ranks import Ranks
from .schedule import Planned, TrainSettings, plan, rate_scale
from .text import StageTextEncoder
from .transformer import StageTransformer

ALIGNED = 50  # steps after which processes that train together are given the same weights


def loss_of(
    transformer: StageTransformer,
    encoder: StageTextEncoder,
    batch: Batch,
    settings: TrainSettings,
    generator: torch.Generator,
    *,
    causal: bool = False,
    apart: bool = False,
) -> Tensor:
    """Weighted error of the predicted clean clips of one batch.

    Args:
        generator: of noise, noise levels and what is dropped; on the CPU.
        causal, apart: as ``plan`` says.
    """
    clean, device = batch.frames, batch.frames.device
    count, pairs = len(clean), clean.shape[2] // PAIR
    levels = torch.randn(count, pairs if apart else 1, generator=generator)
    t = torch.sigmoid(settings.time_mean + settings.time_std * levels).expand(-1, pairs).clone()
    t[:, : batch.kept] = 0.0
    present = (torch.rand(count, generator=generator) >= settings.drop).float().to(device)
    noise = torch.randn(clean.shape, generator=generator).to(device)
    t = t.to(device)
    by_frame = t.repeat_interleave(PAIR, 1)[:, None, :, None, None]
    noisy = torch.lerp(clean, noise, by_frame)
    together = not apart and not batch.kept
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.half):
        words = (batch.words * present[:, None]).long()
        heard = batch.audio * present[:, None, None, None, None]
        level = 1000 * (t[:, 0] if together else t)
        predicted = transformer.predict(
            noisy, level, encoder(words), heard, batch.first, batch.reference, batch.source, causal
        )
    error = (predicted.float() - clean).square().mean(1)  # [B, T, H, W]
    weight = 1 + settings.person_weight * batch.people.sum(1) + settings.mouth_weight * batch.mouths.sum(1)
    by_frame = by_frame[:, 0]
    weight = weight / by_frame.clamp_min(0.12) * (by_frame > 0)
    return (error * weight).sum() / ((by_frame > 0).float().mean() * error.numel())


def optimizers(
    transformer: StageTransformer, encoder: StageTextEncoder, settings: TrainSettings
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside blocks and injectors, AdamW for the rest."""
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in transformer.named_parameters():
        inside = name.startswith(("blocks.", "injectors.")) and parameter.ndim == 2
        (hidden if inside else rest).append(parameter)
    rest.extend(encoder.parameters())
    return [
        Muon(hidden, lr=settings.muon_rate),
        torch.optim.AdamW(rest, lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=0.0),
    ]


def train(
    out: Path,
    settings: TrainSettings,
    *,
    models: tuple[StageTransformer, StageTextEncoder] | None = None,
    spent: tuple[float, int] = (0.0, 0),
    minutes: float | None = None,
    save_every: float = 300.0,
    device: str = "cpu",
    compile_blocks: bool = False,
    world: World | None = None,
    workers: int = 0,
    finish: bool = False,
    ranks: Ranks | None = None,
    on_step: Callable[[int, float], None] | None = None,
    on_save: Callable[[StageTransformer, StageTextEncoder, int, list[tuple[int, float]]], None] | None = None,
) -> Path:
    """Train into the folder ``out`` and return it.

    Writes ``checkpoint.pt`` (everything needed to go on), ``transformer/`` and ``text_encoder/`` (EMA, fp16), and
    ``loss.json``. Goes on from the folder's checkpoint, if there is one.

    Args:
        out: folder; made if missing.
        settings: see ``TrainSettings``; a resumed run keeps those of its checkpoint, but for ``steps``, ``batch``
            and ``half``.
        models: to start from instead of random ones.
        spent: hours and clips that they took.
        minutes: stop after this long, keeping a checkpoint; None trains to the end.
        save_every: seconds between checkpoints.
        device: "cpu" or "cuda".
        compile_blocks: let ``torch.compile`` fuse each block; twice as fast on a CPU, and needs a C++ compiler.
        world: where batches come from; ``World(seed)`` by default, on ``device`` where there are no ``workers``.
        workers: processes that render batches ahead; 0 renders each one when it is needed.
        finish: the learning rate falls to its end within ``minutes``.
        ranks: processes that train together, each with its part of every batch; the first one writes.
        on_step: called with (step, loss).
        on_save: called with (EMA transformer, EMA text encoder, step, losses) whenever a checkpoint is written.

    Raises:
        InputError: the folder's checkpoint can't be used.
    """
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    torch.manual_seed(settings.seed)
    transformer, encoder = models or (StageTransformer(), StageTextEncoder())
    both = nn.ModuleDict({"transformer": transformer, "text_encoder": encoder}).to(device).train()
    ema, stack = Ema(both, settings.ema), optimizers(transformer, encoder, settings)
    first, losses, seconds, clips = settings.start, [], 3600 * spent[0], spent[1]
    if checkpoint.is_file():
        saved = _read(checkpoint)
        try:
            both.load_state_dict(saved["models"])
        except RuntimeError:
            raise InputError(f"{checkpoint} is of a model with another structure. Choose another folder.") from None
        ema.state = {k: v.to(device) for k, v in saved["ema"].items()}
        for optimizer, state in zip(stack, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        first, losses, seconds, clips = saved["step"], saved["losses"], saved["seconds"], saved["clips"]
        kept = TrainSettings(**json.loads(saved["settings"]))
        settings = replace(kept, steps=settings.steps, batch=settings.batch, half=settings.half)
    if compile_blocks:
        for module in (*transformer.blocks, *transformer.injectors.values()):
            module.compile(dynamic=True)
    ranks = ranks or Ranks()
    rates = [settings.muon_rate, settings.learning_rate]
    started = saved_at = time.monotonic()

    def keep(step: int) -> None:
        spent = seconds + time.monotonic() - started
        state = {
            "models": both.state_dict(),
            "ema": ema.state,
            "optimizers": [o.state_dict() for o in stack],
            "step": step,
            "losses": losses,
            "seconds": spent,
            "clips": clips,
            "settings": json.dumps(asdict(settings)),
        }
        partial = checkpoint.with_suffix(".tmp")
        torch.save(state, partial)
        os.replace(partial, checkpoint)
        averaged = averages(transformer, encoder, ema)
        save(out, *averaged, {"step": step, "clips": clips, "hours": round(spent / 3600, 2)})
        (out / "loss.json").write_text(json.dumps(losses))
        if on_save:
            on_save(*averaged, step, losses)

    if world is None and not workers:
        world = World(settings.seed, device=device)
    generator, step, elapsed = torch.Generator(), first, 0.0
    feed = batches(Steps(settings.seed, Planned(settings, ranks), world), first, settings.steps, workers)
    for step, batch in enumerate(feed, first):
        _, shape, causal, apart = plan(step, settings)
        batch = batch.to(device)
        scale = rate_scale(step, settings)
        if finish and minutes is not None:
            scale = min(scale, max(0.02, (1 - elapsed / (60 * minutes)) / settings.decay))
        generator.manual_seed(settings.seed * 1_000_003 + step * ranks.count + ranks.number)
        for optimizer, rate in zip(stack, rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * scale
        loss = loss_of(transformer, encoder, batch, settings, generator, causal=causal, apart=apart)
        for optimizer in stack:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        told = ranks.average(both, torch.tensor([float(loss.detach()), time.monotonic() - started]))
        elapsed = float(told[1])
        nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        for optimizer in stack:
            optimizer.step()
        ema.update(both, step)
        clips += shape.batch
        losses.append((step, float(told[0])))
        if on_step:
            on_step(step, losses[-1][1])
        if step % ALIGNED == 0:
            ranks.align(both)
        if minutes is not None and elapsed > 60 * minutes:
            break
        if ranks.number == 0 and time.monotonic() - saved_at > save_every:
            keep(step + 1)
            saved_at = time.monotonic()
    if ranks.number == 0:
        keep(step + 1)
    return out


def _read(checkpoint: Path) -> dict[str, Any]:
    advice = "Delete it, or choose another folder."
    try:
        saved = torch.load(checkpoint, weights_only=True)
        missing = {"models", "ema", "optimizers", "step", "losses", "seconds", "clips", "settings"} - set(saved)
    except Exception as error:  # torch raises half a dozen kinds here
        raise InputError(f"{checkpoint} cannot be read ({type(error).__name__}). {advice}") from None
    if missing:
        raise InputError(f"{checkpoint} is no checkpoint of stage-train: it lacks {sorted(missing)}. {advice}")
    return saved
