"""The job from first check to last file: nothing is written before everything is made."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..api import cached
from ..files import whole_file, writing
from ..media import compose, video
from ..portrait.hearing import FPS
from ..portrait.pipeline import PortraitPipeline
from .plot import draw
from .report import as_bytes, report_of
from .request import Outputs, Request
from .scene import SOUND_RATE, Scene, prepare
from .state import Kept, model_name
from .take import Clip, Progress, Take, estimate, shoot

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
    on_kept: Callable[[Path, int], None] | None = None,
) -> Result:
    """Animate a photo.

    Args:
        request: what to make.
        on_estimate: called with the seconds that an uncached run will take, about, before the long work.
        on_progress: called after every step.
        on_kept: called when a clip is finished and kept, with the folder of the kept clips and their number. They stay
            there until the job is done; ``request.resume`` goes on from them.

    Raises:
        InputError: something can't be used; no output is written then, nor after any other exception.

    Example:
        >>> result = animate(Request(image="me.jpg", audio="hello.wav", out="hello.mp4"))
    """
    request.check()
    pipe = PortraitPipeline.load(request.model)
    pipe.transformer.to(request.device)
    with cached(pipe, request.method, **request.settings):
        pass  # whatever this method refuses on this model, it refuses now
    scene = prepare(
        Path(request.image), Path(request.audio), pipe.transformer.config.image_size,
        mask=request.mask, crop=request.crop,
    )  # fmt: skip
    clips, takes = pipe.clips(scene.speech.size), 2 if request.compare else 1
    kept = Kept(request, clips)
    if on_kept and len(kept):
        on_kept(kept.folder, len(kept))

    def keep(take: str, index: int, clip: Clip) -> None:
        kept.add(take, index, clip)
        if on_kept and len(kept):
            on_kept(kept.folder, len(kept))

    def made(name: str, method: str, settings: Mapping[str, Any]) -> Take:
        return shoot(
            pipe, scene, method, settings, **run, seed=request.seed, on_progress=on_progress,
            finished=kept.clips(name), on_clip=partial(keep, name),
        )  # fmt: skip

    run: dict[str, Any] = {"steps": request.steps, "guidance_scale": request.guidance_scale}
    seconds = estimate(pipe, scene, **run)
    if on_estimate:
        on_estimate(seconds * (takes * clips - len(kept)))
    baseline = made("uncached", "none", {}) if request.compare else None
    take = made("cached", request.method, request.settings)
    report = report_of(request, scene, model_name(request.model), clips, baseline, take)
    write(request, scene, baseline, take, report)
    kept.remove()
    return Result(report, request.outputs)


def write(request: Request, scene: Scene, baseline: Take | None, take: Take, report: dict[str, Any]) -> None:
    """Write all files of a request; each is complete before the first takes its name."""
    outputs, size = request.outputs, request.size
    with contextlib.ExitStack() as stack:
        names = {path: stack.enter_context(whole_file(path)) for path in outputs}
        with writing(outputs.video):
            video.encode(names[outputs.video], enlarged(take.frames, size), FPS, (scene.sound, SOUND_RATE))
        if outputs.side_by_side and baseline is not None:
            labels = [f"uncached {baseline.seconds:.1f} s", _label(baseline, take)]
            frames = _beside(baseline.frames, take.frames, labels, size)
            with writing(outputs.side_by_side):
                video.encode(names[outputs.side_by_side], frames, FPS, (scene.sound, SOUND_RATE))
        if outputs.plot:
            with writing(outputs.plot):
                draw(names[outputs.plot], scene, baseline, take)
        if outputs.report:
            text = json.dumps(report, indent=1, allow_nan=False)
            with writing(outputs.report):
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
