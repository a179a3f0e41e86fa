"""One run of the pipeline under one method, timed and traced."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..api import cached
from ..portrait.data import to_pixels
from ..portrait.hearing import FEATURES, TOKENS
from ..portrait.pipeline import PortraitPipeline
from ..trace import Record, Trace
from .scene import Scene


@dataclass
class Progress:
    """How far a take is: clips and steps are counted from 0; the last call has ``done == steps``."""

    method: str
    clips: int
    steps: int
    clip: int = 0
    done: int = 0
    computed: int = 0
    skipped: int = 0


@dataclass(frozen=True)
class Take:
    """What a run made.

    Attributes:
        frames: float32 [T, s, s, 3], 0 to 1.
        seconds: wall-clock time of the run.
        trace: of the run.
        settings: of the method, defaults included.
    """

    method: str
    frames: np.ndarray
    seconds: float
    trace: Trace
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def computed(self) -> int:
        """Computed steps of all clips."""
        return sum(self.trace.computed(run) for run in range(len(self.trace.runs)))


def shoot(
    pipe: PortraitPipeline,
    scene: Scene,
    method: str,
    settings: Mapping[str, Any],
    *,
    steps: int,
    guidance_scale: float,
    seed: int,
    on_progress: Callable[[Progress], None] | None = None,
) -> Take:
    """Run the pipeline once under ``method``; the model is left as it was."""
    with cached(pipe, method, mask=scene.person, **settings) as handle:
        clips = pipe.clips(scene.speech.size)
        shown = steps if handle.method.shorten is None else handle.method.shorten.length(steps)
        state = Progress(method, clips, clips * shown)

        counted = None

        def count(record: Record) -> None:
            nonlocal counted
            at = record.run, record.step, record.evaluation
            if record.decides and at != counted:
                state.computed += record.decision == "computed"
                state.skipped += record.decision == "skipped"
                counted = at

        def step(done: int, _: int) -> None:
            state.done, state.clip = done, min((done - 1) // shown, clips - 1)
            if on_progress:
                on_progress(state)

        handle.on_step = count
        started = time.perf_counter()
        frames = pipe(scene.portrait, scene.speech, steps=steps, guidance_scale=guidance_scale, seed=seed, on_step=step)
        seconds = time.perf_counter() - started
        return Take(method, frames, seconds, handle.trace, dict(handle.settings))


def estimate(pipe: PortraitPipeline, scene: Scene, *, steps: int, guidance_scale: float) -> float:
    """Seconds that an uncached take will last, about, from two steps of it; these warm the model up, too."""
    config = pipe.transformer.config
    portrait = to_pixels(scene.portrait)[None]
    silence = torch.zeros(1, config.frames, TOKENS, FEATURES)
    times: list[float] = []
    pipe.denoise(
        portrait, silence, steps=3, guidance_scale=guidance_scale,
        on_step=lambda done, total: times.append(time.perf_counter()),
    )  # fmt: skip
    return (times[-1] - times[0]) / (len(times) - 1) * steps * pipe.clips(scene.speech.size)
