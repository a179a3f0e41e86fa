"""Whether ``speed=`` gives the speed that is asked for: ``python -m synccache.bench.speeds`` prints a table.

On the built-in portrait model, held-out clips: for each clip an uncached run, then one at each speed, then the next
clip. What is compared is the wall-clock time of the denoising. The first clip warms up and isn't counted.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from typing import Any

import torch

from ..api import cached
from ..portrait.data import to_pixels
from ..portrait.pipeline import PortraitPipeline
from .heldout import HeldOut, held_out

SPEEDS = (2.0, 3.0, 4.0)
CLIPS = 4


def seconds_of(pipe: PortraitPipeline, person: HeldOut, steps: int) -> float:
    """Wall-clock seconds of denoising one clip."""
    clip, begun = person.clip, time.perf_counter()
    pipe.denoise(to_pixels(clip.portrait)[None], clip.features[None], steps=steps, seeds=[person.index])
    return time.perf_counter() - begun


def measured(clips: int = CLIPS, steps: int = 40) -> dict[float, list[tuple[float, int]]]:
    """Speed-up and computed steps of each clip's run, by the speed that was asked for."""
    pipe = PortraitPipeline.load()
    config: Any = pipe.transformer.config
    found: dict[float, list[tuple[float, int]]] = {speed: [] for speed in SPEEDS}
    for person in held_out(clips + 1, config.frames, config.image_size):
        before = seconds_of(pipe, person, steps)
        for speed in SPEEDS:
            with cached(pipe, speed=speed) as handle:
                taken = seconds_of(pipe, person, steps)
                found[speed].append((taken, handle.trace.computed()))
        after = seconds_of(pipe, person, steps)
        uncached = (before + after) / 2
        for speed in SPEEDS:
            taken, computed = found[speed].pop()
            found[speed].append((uncached / taken, computed))
        print(f"clip {person.index} done, uncached {before:.1f} and {after:.1f} s", file=sys.stderr, flush=True)
    return {speed: runs[1:] for speed, runs in found.items()}


def main() -> None:
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    print(f"{CLIPS} held-out clips, 40 steps, guidance; uncached time is the mean of a run before and one after\n")
    print("asked   measured (lowest to highest)   computed steps")
    for speed, runs in measured().items():
        ups, steps = [up for up, _ in runs], [computed for _, computed in runs]
        print(f"{speed:5.1f}   {statistics.median(ups):8.2f} ({min(ups):.2f} to {max(ups):.2f})          {steps}")


if __name__ == "__main__":
    main()
