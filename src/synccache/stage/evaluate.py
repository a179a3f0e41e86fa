"""How well the stage model does what it is told, and how hard it is: held-out scenes, the truth and controls beside."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import GUIDANCE_SCALE
from .captions import captions
from .data import HELD_OUT, Batch, Speech, make, tracks_of
from .finder import Finder, Seen
from .pipeline import StagePipeline
from .scenes import Dice, Scenes
from .world import draw

PRESENT = 0.015  # part of the frame that somebody covers who counts as there


@dataclass(frozen=True)
class Held:
    """Held-out scenes with captions that say all, what is heard and shown of them, and the noise to start from."""

    scenes: Scenes
    said: list[str]
    truth: Batch
    noise: Tensor


def held_out(speech: Speech, clips: int, frames: int = 8, size: int = 32, seed: int = 0) -> Held:
    """``clips`` scenes that training never has; ``seed`` is the noise's only."""
    dice = Dice(torch.Generator().manual_seed(HELD_OUT))
    tracks = tracks_of(speech, HELD_OUT, clips, frames)
    scenes = draw(dice, clips, frames)
    said = captions(scenes, dice, complete=True)
    truth = make("scene", scenes, tracks, size, dice, complete=True)
    noise = torch.randn(truth.frames.shape, generator=torch.Generator().manual_seed(1 + seed))
    return Held(scenes, said, truth, noise)


def generate(pipe: StagePipeline, held: Held, steps: int, guidance_scale: float = GUIDANCE_SCALE) -> Tensor:
    """Clips [B, 3, T, H, W] for the held-out scenes."""
    _, _, frames, height, width = held.noise.shape
    (shown,) = pipe(
        held.said, held.truth.audio, latents=held.noise, height=height, width=width, num_frames=frames,
        num_inference_steps=steps, guidance_scale=guidance_scale, output_type="pt", return_dict=False,
    )  # fmt: skip
    return shown


@torch.no_grad()
def judge(finder: Finder, clips: Tensor, held: Held) -> dict[str, float]:
    """What a finder sees in clips that were made of the held-out captions.

    Returns:
        ``people``: part of the named people that are there. ``others``: people there whom nobody named, a clip.
        ``scene``, ``camera``: part of the clips that show what is said. ``lips``: correlation of the speakers' mouths
        with their sound tracks, over all frames of all clips, from the mean of each clip. ``silent``: mean opening of
        those who don't speak, as a part of the speakers'.
    """
    seen = finder(clips)
    scenes, opening = held.scenes, held.truth.opening
    there = area_by_colour(seen) > PRESENT
    named = torch.zeros_like(there)
    found: list[Tensor] = []
    meant: list[Tensor] = []
    speaking: list[Tensor] = []
    silent: list[Tensor] = []
    for row in range(len(scenes)):
        for person in range(int(scenes.count[row])):
            colour = int(scenes.colour[row, person])
            named[row, colour] = True
            if not there[row, colour]:
                continue
            mouth = mouth_of(seen, row, colour)
            if scenes.speaker[row, person] >= 0:
                found.append(mouth - mouth.mean())
                meant.append(opening[row, person] - opening[row, person].mean())
                speaking.append(mouth)
            else:
                silent.append(mouth)
    return {
        "people": float((there & named).sum() / named.sum()),
        "others": float((there & ~named).sum() / len(scenes)),
        "scene": float((seen.scene.argmax(1) == scenes.kind).float().mean()),
        "camera": float((seen.camera.argmax(1) == scenes.camera).float().mean()),
        "lips": _correlation(found, meant),
        "silent": _mean(silent) / max(_mean(speaking), 1e-6),
    }


def area_by_colour(seen: Seen) -> Tensor:
    """Part of the frame [B, colours] in which people of each colour are seen."""
    own = seen.colour.argmax(1)
    return torch.stack([(own == 1 + c).float().mean((1, 2, 3)) for c in range(seen.colour.shape[1] - 1)], 1)


def mouth_of(seen: Seen, row: int, colour: int) -> Tensor:
    """Opening [T] of the mouth of whoever has this colour, in clip ``row``."""
    weight = seen.mouth[row] * (seen.colour[row].argmax(0) == 1 + colour)
    return (weight * seen.opening[row]).sum((1, 2)) / weight.sum((1, 2)).clamp_min(1e-3)


@torch.no_grad()
def hardness(
    pipe: StagePipeline, finder: Finder, held: Held, guidance_scale: float = 6.0, steps: int = 40
) -> dict[str, float]:
    """How far from an uncached run other runs are, PSNR in dB.

    Returns:
        ``another_seed``: the same captions from other noise. ``ten_steps``, ``ten_steps_person``: ten plain steps, over
        the frame and over people. ``injectors``: by how much an injector's output changes over three steps, relative,
        mean of injectors and steps.
    """
    changes: list[float] = []
    handles = [_watch(injector, changes) for injector in pipe.transformer.injectors.values()]
    reference = generate(pipe, held, steps, guidance_scale)
    for handle in handles:
        handle.remove()
    ten = generate(pipe, held, 10, guidance_scale)
    other = Held(held.scenes, held.said, held.truth, held.noise.roll(1, 0).flip(-1))
    person = finder(reference).person[:, None]
    return {
        "another_seed": psnr(generate(pipe, other, steps, guidance_scale), reference),
        "ten_steps": psnr(ten, reference),
        "ten_steps_person": psnr(ten, reference, person),
        "injectors": sum(changes) / max(1, len(changes)),
    }


def psnr(a: Tensor, b: Tensor, weight: Tensor | None = None) -> float:
    """Mean over clips [B, 3, T, H, W], -1 to 1; ``weight`` [B, 1, T, H, W]."""
    weight = torch.ones_like(a[:, :1]) if weight is None else weight
    error = ((a - b).square() * weight).sum((1, 2, 3, 4)) / (3 * weight.sum((1, 2, 3, 4))).clamp_min(1e-6)
    return float((10 * torch.log10(4 / error.clamp_min(1e-10))).mean())


def evaluate(
    pipe: StagePipeline,
    finder: Finder,
    speech: Speech,
    *,
    clips: int = 32,
    steps: int = 30,
    guidance_scale: float = GUIDANCE_SCALE,
    on_part: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Judge the model on ``clips`` held-out scenes, with two controls: the true clips, and captions of other scenes.

    Returns:
        A dictionary for JSON: ``generated``, ``truth``, ``other_captions`` as ``judge`` gives them; ``hardness``.
    """
    held = held_out(speech, clips)
    report: dict[str, Any] = {"clips": clips, "steps": steps, "guidance_scale": guidance_scale}
    say = on_part or (lambda _: None)
    say("truth")
    report["truth"] = judge(finder, held.truth.frames, held)
    say("generated")
    shown = generate(pipe, held, steps, guidance_scale)
    report["generated"] = judge(finder, shown, held)
    report["other_captions"] = judge(finder, shown.roll(1, 0), held)
    say("hardness")
    few = min(8, clips)
    part = Held(held.scenes[:few], held.said[:few], _first(held.truth, few), held.noise[:few])
    report["hardness"] = hardness(pipe, finder, part)
    return report


def _first(batch: Batch, count: int) -> Batch:
    names = ("frames", "people", "mouths", "words", "audio", "opening")
    return Batch(**{name: getattr(batch, name)[:count] for name in names})


def _watch(injector: torch.nn.Module, changes: list[float], apart: int = 3) -> Any:
    """Note the relative change of an injector's outputs from ``apart`` steps before; guidance calls twice a step."""
    before: list[Tensor] = []

    def note(_module: torch.nn.Module, _inputs: Any, output: Tensor) -> None:
        before.append(output.detach())
        if len(before) > 2 * apart:
            old = before.pop(0)
            changes.append(float((output - old).norm() / old.norm().clamp_min(1e-9)))

    return injector.register_forward_hook(note)


def _correlation(found: list[Tensor], meant: list[Tensor]) -> float:
    if not found:
        return math.nan
    a, b = torch.cat(found), torch.cat(meant)
    return float((a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-9))


def _mean(parts: list[Tensor]) -> float:
    return float(torch.cat(parts).mean()) if parts else 0.0
