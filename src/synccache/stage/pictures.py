"""Sheets of samples: each generated clip beside the true one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .captions import captions
from .data import HELD_OUT, Speech, make, tracks_of
from .pipeline import StagePipeline
from .scenes import Dice
from .world import draw

GAP = 6  # pixels between generated and true frames


def strip(video: Tensor) -> np.ndarray:
    """A clip [3, T, H, W], -1 to 1, as one picture uint8 [H, T*W, 3]."""
    pixels = ((video.clamp(-1, 1) + 1) * 127.5).round().byte()
    return pixels.permute(2, 1, 3, 0).flatten(1, 2).cpu().numpy()


def sample_sheet(
    pipe: StagePipeline, speech: Speech, path: Path, *, clips: int = 6, size: int = 32, frames: int = 8, steps: int = 20
) -> list[str]:
    """Write a PNG of ``clips`` held-out scenes, generated on the left, true on the right; return their captions."""
    dice = Dice(torch.Generator().manual_seed(HELD_OUT))
    tracks = tracks_of(speech, HELD_OUT, clips, frames)
    scenes = draw(dice, clips, frames)
    said = captions(scenes, dice, complete=True)
    truth = make("scene", scenes, tracks, size, dice, complete=True)
    (shown,) = pipe(
        said, truth.audio, height=size, width=size, num_frames=frames, num_inference_steps=steps,
        generator=[torch.Generator().manual_seed(seed) for seed in range(clips)], output_type="pt",
        return_dict=False,
    )  # fmt: skip
    gap = np.zeros((size, GAP, 3), np.uint8)
    rows = [np.concatenate([strip(a), gap, strip(b)], 1) for a, b in zip(shown, truth.frames, strict=True)]
    sheet = Image.fromarray(np.concatenate(rows))
    sheet.resize((3 * sheet.width, 3 * sheet.height), Image.Resampling.NEAREST).save(path)
    return said
