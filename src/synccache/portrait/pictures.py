"""How training goes, as pictures: the loss curve, and a strip of samples beside the truth."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ..defaults import GUIDANCE_SCALE
from ..files import whole_file
from ..media.compose import caption
from .data import HELD_OUT, Clip, sample_clip, to_pixels
from .pipeline import PortraitPipeline
from .speech import Utterances

SIDE = 128  # of a picture in the strip


def loss_curve(losses: Sequence[tuple[int, float]], path: Path) -> Path:
    """Draw (step, loss) pairs, faint, and their running mean over a fiftieth of the run."""
    steps, values = (np.array(column, float) for column in zip(*losses, strict=True))
    window = max(1, len(values) // 50)
    sums = np.cumsum(np.concatenate([[0.0], values]))
    mean = (sums[window:] - sums[:-window]) / window
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(steps, values, color="#2a6f97", alpha=0.2, lw=0.7)
    axes.plot(steps[window - 1 :], mean, color="#2a6f97", lw=1.6, label=f"mean of {window}")
    if values.min() > 0:
        axes.set_yscale("log")
    axes.set_xlabel("training step")
    axes.set_ylabel("loss")
    axes.legend()
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=110, format="png")
    return path


def sample_strip(
    pipe: PortraitPipeline,
    path: Path,
    *,
    people: int = 3,
    columns: int = 8,
    steps: int = 10,
    guidance_scale: float = GUIDANCE_SCALE,
) -> Path:
    """Draw generated clips of held-out people saying held-out speech, each under the rendered truth.

    Args:
        pipe: what generates.
        path: PNG to write.
        people: clips.
        columns: frames of each, evenly spaced; the portrait comes first.
        steps, guidance_scale: as in ``PortraitPipeline``.
    """
    config = pipe.transformer.config
    clips = _held_out(people, config.frames, config.image_size)
    video = pipe.denoise(
        torch.cat([to_pixels(clip.portrait)[None] for clip in clips]),
        torch.stack([clip.features for clip in clips]),
        steps=steps,
        guidance_scale=guidance_scale,
        seeds=range(people),
    )
    made = ((video + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 4, 1).numpy()
    shown = np.linspace(0, config.frames - 1, min(columns, config.frames)).round().astype(int)
    rows = []
    for clip, frames in zip(clips, made, strict=True):
        for name, row in (("rendered", clip.frames), ("generated", frames)):
            pictures = [clip.portrait, *(row[i] for i in shown)]
            strip = np.hstack([cv2.resize(p, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for p in pictures])
            rows.append(np.hstack([np.rot90(caption(name, SIDE, 20)), strip]))
    with whole_file(path) as partial:
        Image.fromarray(np.vstack(rows)).save(partial, format="PNG")
    return path


@functools.cache
def _held_out(people: int, frames: int, size: int) -> tuple[Clip, ...]:
    speech = Utterances("test", silent=0.0)
    return tuple(
        sample_clip(np.random.default_rng((HELD_OUT, 9, person)), speech, frames, size=size) for person in range(people)
    )
