"""One run of the pipeline under one method, timed and traced."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

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
class Clip:
    """A finished clip.

    Attributes:
        video: float32 [1, 3, T, s, s], -1 to 1, as the pipeline made it.
        seconds: that it took.
        records: of its trace.
    """

    video: Tensor
    seconds: float
    records: tuple[Record, ...]


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
    finished: Sequence[Clip] = (),
    on_clip: Callable[[int, Clip], None] | None = None,
) -> Take:
    """Run the pipeline once under ``method``; the model is left as it was.

    Args:
        finished: the first clips, which a run that was stopped has made.
        on_clip: called with the number of each clip that was made, and the clip.
    """
    with cached(pipe, method, mask=scene.person, **settings) as handle:
        clips = pipe.clips(scene.speech.size)
        shown = steps if handle.method.shorten is None else handle.method.shorten.length(steps)
        state = Progress(method, clips, clips * shown)
        trace, counted = Trace(), None

        def count(record: Record) -> None:
            nonlocal counted
            trace.records.append(record)
            at = record.run, record.step, record.evaluation
            if record.decides and at != counted:
                state.computed += record.decision == "computed"
                state.skipped += record.decision == "skipped"
                counted = at

        def step(done: int, _: int) -> None:
            state.done, state.clip = done, min((done - 1) // shown, clips - 1)
            if on_progress:
                on_progress(state)

        for earlier in finished:
            for record in earlier.records:
                count(record)
        handle.on_step = lambda record: count(replace(record, run=record.run + len(finished)))
        started = since = time.perf_counter()
        at = len(trace)

        def clip(index: int, video: Tensor) -> None:
            nonlocal since, at
            if on_clip:
                now = time.perf_counter()
                on_clip(index, Clip(video, now - since, tuple(trace.records[at:])))
                since, at = now, len(trace)

        frames = pipe(
            scene.portrait, scene.speech, steps=steps, guidance_scale=guidance_scale, seed=seed, on_step=step,
            finished=[earlier.video for earlier in finished], on_clip=clip,
        )  # fmt: skip
        seconds = time.perf_counter() - started + sum(earlier.seconds for earlier in finished)
        return Take(method, frames, seconds, trace, dict(handle.settings))


def estimate(pipe: PortraitPipeline, scene: Scene, *, steps: int, guidance_scale: float) -> float:
    """Seconds that an uncached clip will last, about, from two steps of it; these warm the model up, too."""
    config = pipe.transformer.config
    device = next(pipe.transformer.parameters()).device
    portrait = to_pixels(scene.portrait)[None].to(device)
    silence = torch.zeros(1, config.frames, TOKENS, FEATURES, device=device)
    times: list[float] = []
    pipe.denoise(
        portrait, silence, steps=3, guidance_scale=guidance_scale,
        on_step=lambda done, total: times.append(time.perf_counter()),
    )  # fmt: skip
    return (times[-1] - times[0]) / (len(times) - 1) * steps
