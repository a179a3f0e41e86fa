"""What an animation is asked for, and whether that can be done, before anything slow begins."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..defaults import GUIDANCE_SCALE
from ..errors import InputError
from ..files import check_mp4, check_new, check_output, existing_file

NOT_HERE = {"mask": "the mask is a file of its own (--mask)", "group": "there is one process", "steps": "use --steps"}
DEVICES = re.compile(r"cpu|mps|cuda(:\d{1,3})?")
RANGES = {"steps": (1, 1000), "seed": (0, 2**31 - 1), "guidance_scale": (0, 50), "size": (32, 2048)}


@dataclass(frozen=True)
class Outputs:
    """Where the files go; None where there is none."""

    video: Path
    side_by_side: Path | None
    report: Path | None
    plot: Path | None

    def __iter__(self):
        return iter(path for path in (self.video, self.side_by_side, self.report, self.plot) if path is not None)


@dataclass(frozen=True)
class Request:
    """An animation to make.

    Args:
        image: the photo.
        audio: the recording, up to ten minutes.
        out: the video to write, ``.mp4``.
        steps: denoising steps a clip (of twelve frames, with the packaged model).
        method: a name from ``synccache.methods()``.
        settings: of the method.
        compare: also run uncached with the same seed, and write both side by side.
        seed: of everything that the audio leaves open.
        guidance_scale: weight of the audio; 1 takes one call of the model a step instead of two.
        size: side of the video in pixels; the model's own pictures are enlarged to it.
        mask: a picture as large as the photo, white where the person is; None: from the face that is found.
        report: the report to write, ``.json``; its plot lies beside it. None with ``compare``: beside the video.
        model: weights from ``portrait-train``; None: the packaged ones.
        crop: frame the face as the model knows it; False takes the photo's centre square as it is.
        device: where the model runs: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        overwrite: replace files that are there; else they are refused.
        resume: go on from the finished clips of a job that was stopped.
    """

    image: Path
    audio: Path
    out: Path
    steps: int = 40
    method: str = "synccache"
    settings: Mapping[str, Any] = field(default_factory=dict)
    compare: bool = False
    seed: int = 0
    guidance_scale: float = GUIDANCE_SCALE
    size: int = 384
    mask: Path | None = None
    report: Path | None = None
    model: Path | None = None
    crop: bool = True
    device: str = "cpu"
    overwrite: bool = False
    resume: bool = False

    @property
    def outputs(self) -> Outputs:
        """The files that this request writes."""
        out = Path(self.out)
        report = Path(self.report) if self.report else out.with_suffix(".json") if self.compare else None
        return Outputs(
            video=out,
            side_by_side=out.with_name(f"{out.stem}.compare.mp4") if self.compare else None,
            report=report,
            plot=report.with_name(f"{report.stem}.steps.png") if report else None,
        )

    @property
    def learnt(self) -> list[Path]:
        """Files of profiles among the settings."""
        values = [self.settings.get(name) for name in ("plan", "profile")]
        each = [one for value in values for one in (value if isinstance(value, list | tuple) else [value])]
        return [Path(one) for one in each if isinstance(one, str | Path)]

    def check(self) -> None:
        """Refuse what can't be done: numbers out of range, unknown methods and settings, files that can't be written.

        Raises:
            InputError: says what, and what to do.
        """
        self.check_files()
        check_device(self.device)
        check_settings(self.method, self.settings)
        computed = self.settings.get("computed_steps")
        if isinstance(computed, int) and computed > self.steps:
            raise InputError(
                f"computed_steps is {computed}, but there are only {self.steps} steps (--steps); choose fewer."
            )

    def check_files(self) -> None:
        """The part of ``check`` that needs neither torch nor a model: numbers, and the files' names.

        Raises:
            InputError: says what, and what to do.
        """
        check_ranges(**{name: getattr(self, name) for name in RANGES})
        if not DEVICES.fullmatch(self.device):
            raise InputError(f"{self.device!r} is not a device. Give cpu, cuda, cuda:1 (the second one) or mps.")
        if self.report is not None and Path(self.report).suffix.lower() != ".json":
            raise InputError(f"The report {self.report} must end in .json, since it is written as JSON.")
        existing_file(self.image, "a photo")
        existing_file(self.audio, "an audio file")
        for path, what in ((self.mask, "a mask"), (self.model, "weights from portrait-train")):
            if path is not None:
                existing_file(path, what)
        sources = (self.image, self.audio, self.mask, self.model, *self.learnt)
        check_mp4(self.outputs.video)
        for path in self.outputs:
            check_output(path, *sources)
            check_new(path, self.overwrite)


def check_ranges(**values: float) -> None:
    """Refuse numbers outside ``RANGES``, by name.

    Raises:
        InputError: says which, and what is allowed.
    """
    for name, value in values.items():
        low, high = RANGES[name]
        if not (math.isfinite(value) and low <= value <= high):
            raise InputError(f"{name} must lie between {low} and {high}, but is {value}.")


def check_device(name: str) -> None:
    """Refuse a device that torch doesn't find here.

    Raises:
        InputError: says what there is.
    """
    import torch

    kind, _, number = name.partition(":")
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(number or 0) >= count:
        cards = ", ".join(f"cuda:{index}" for index in range(torch.cuda.device_count()))
        there = ", ".join(["cpu", *([cards] if cards else []), *(["mps"] if torch.backends.mps.is_available() else [])])
        raise InputError(f"There is no device {name!r} here. Torch finds: {there}.")


def check_settings(method: str, settings: Mapping[str, Any]) -> None:
    """Refuse an unknown method, and settings that it doesn't take.

    Raises:
        InputError: names what is known.
    """
    import torch

    from ..methods import complete, find

    recipe = find(method)
    for name, why in NOT_HERE.items():
        if name in settings:
            raise InputError(f"{name} can't be given as a setting here: {why}.")
    complete(recipe, settings)
    device = settings.get("storage_device")
    if device is not None:
        try:
            torch.zeros(1, device=device).cpu()
        except (RuntimeError, AssertionError, NotImplementedError):
            raise InputError(f"storage_device={device!r} can't be used: there is no such device here.") from None
