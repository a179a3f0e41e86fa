"""The job from first check to last file: nothing is written before everything is made."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..api import cached
from ..media import compose, video
from ..portrait.hearing import FPS
from ..portrait.pipeline import WEIGHTS, PortraitPipeline
from .plot import draw
from .report import as_bytes, report_of
from .request import Outputs, Request
from .scene import SOUND_RATE, Scene, prepare
from .take import Progress, Take, estimate, shoot

CHUNK = 24  # frames enlarged and put side by side at a time


@dataclass(frozen=True)
class Result:
    """A finished animation: the report, and where the files lie."""

    report: dict[str, Any]
    outputs: Outputs


def animate(
    request: Request,
    *,
    on_estimate: Callable[[float], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Animate a photo.

    Args:
        request: what to make.
        on_estimate: called with the seconds that an uncached run will take, about, before the long work.
        on_progress: called after every step.

    Raises:
        InputError: something can't be used; nothing is written then, nor after any other exception.

    Example:
        >>> result = animate(Request(image="me.jpg", audio="hello.wav", out="hello.mp4"))
    """
    request.check()
    pipe = PortraitPipeline.load(request.model)
    with cached(pipe, request.method, **request.settings):
        pass  # whatever this method refuses on this model, it refuses now
    scene = prepare(
        Path(request.image), Path(request.audio), pipe.transformer.config.image_size,
        mask=request.mask, crop=request.crop,
    )  # fmt: skip
    run: dict[str, Any] = {"steps": request.steps, "guidance_scale": request.guidance_scale}
    seconds = estimate(pipe, scene, **run)
    if on_estimate:
        on_estimate(seconds * (2 if request.compare else 1))
    run |= {"seed": request.seed, "on_progress": on_progress}
    baseline = shoot(pipe, scene, "none", {}, **run) if request.compare else None
    take = shoot(pipe, scene, request.method, request.settings, **run)
    clips = pipe.clips(scene.speech.size)
    report = report_of(request, scene, model_name(request.model), clips, baseline, take)
    write(request, scene, baseline, take, report)
    return Result(report, request.outputs)


def model_name(path: Path | None) -> str:
    """File name and start of the SHA-256 of a model's weights."""
    with contextlib.ExitStack() as stack:
        packaged = files("synccache.portrait") / "assets" / WEIGHTS
        file = stack.enter_context(as_file(packaged)) if path is None else Path(path)
        return f"{file.name} (sha256 {hashlib.sha256(file.read_bytes()).hexdigest()[:16]})"


def write(request: Request, scene: Scene, baseline: Take | None, take: Take, report: dict[str, Any]) -> None:
    """Write all files of a request; each is complete before the first takes its name."""
    outputs, size = request.outputs, request.size
    with contextlib.ExitStack() as stack:
        names = {path: stack.enter_context(video.whole_file(path)) for path in outputs}
        video.write(names[outputs.video], enlarged(take.frames, size), FPS, (scene.sound, SOUND_RATE))
        if outputs.side_by_side and baseline is not None:
            labels = [f"uncached {baseline.seconds:.1f} s", _label(baseline, take)]
            frames = _beside(baseline.frames, take.frames, labels, size)
            video.write(names[outputs.side_by_side], frames, FPS, (scene.sound, SOUND_RATE))
        if outputs.plot:
            draw(names[outputs.plot], scene, baseline, take)
        if outputs.report:
            text = json.dumps(report, indent=1, allow_nan=False)
            names[outputs.report].write_text(text + "\n", encoding="utf-8")


def _label(baseline: Take, take: Take) -> str:
    return f"{take.method} {take.seconds:.1f} s, {baseline.seconds / take.seconds:.1f}×"


def enlarged(frames: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Frames [T, s, s, 3] in 0..1, one by one, as uint8 [size, size, 3]."""
    for frame in frames:
        if frame.shape[0] == size:
            yield as_bytes(frame)
            continue
        way = cv2.INTER_LANCZOS4 if frame.shape[0] < size else cv2.INTER_AREA
        yield as_bytes(cv2.resize(frame, (size, size), interpolation=way))


def _beside(left: np.ndarray, right: np.ndarray, labels: list[str], size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(left), CHUNK):
        pair = [np.stack(list(enlarged(clip[start : start + CHUNK], size))) for clip in (left, right)]
        yield from compose.side_by_side(pair, labels)
