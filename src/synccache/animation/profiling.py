"""A plan for the portrait model, from one watched clip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..planner.plan import Plan
from ..planner.profile import profile
from ..portrait import GUIDANCE_SCALE
from ..portrait.hearing import FRAME
from ..portrait.pipeline import PortraitPipeline
from .scene import Scene


def plan_portrait(
    pipe: PortraitPipeline,
    scene: Scene,
    *,
    steps: int = 40,
    guidance_scale: float = GUIDANCE_SCALE,
    seed: int = 0,
    source: dict[str, Any] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Plan:
    """Profile one clip: the loudest stretch of the speech, as long as the model's clips are.

    Args:
        pipe, scene: what runs, on what.
        steps, guidance_scale, seed: as in ``PortraitPipeline``.
        source: kept in the plan: what it was made from.
        on_step: called with (steps done, steps).
    """
    speech = loudest(scene.speech, pipe.transformer.config.frames * FRAME)
    run: dict[str, Any] = {"steps": steps, "guidance_scale": guidance_scale, "seed": seed, "on_step": on_step}
    return profile(pipe, lambda: pipe(scene.portrait, speech, **run), mask=scene.person, source=source)


def loudest(wave: np.ndarray, samples: int) -> np.ndarray:
    """The stretch of ``samples`` (or all, where there are fewer) with the most energy in it."""
    if wave.size <= samples:
        return wave
    energy = np.concatenate([[0.0], np.cumsum(wave.astype(np.float64) ** 2)])
    start = int(np.argmax(energy[samples:] - energy[:-samples]))
    return wave[start : start + samples]
