"""What an animation is asked for, and whether that can be done, before anything slow begins."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from ..media import video
from ..methods import complete, find
from ..methods.names import listed
from ..portrait import GUIDANCE_SCALE

NOT_HERE = {"mask": "the mask is a file of its own (--mask)", "group": "there is one process", "steps": "use --steps"}
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

    def check(self) -> None:
        """Refuse what can't be done: numbers out of range, unknown methods and settings, files that can't be written.

        Raises:
            InputError: says what, and what to do.
        """
        check_ranges(**{name: getattr(self, name) for name in RANGES})
        check_settings(self.method, self.settings)
        if self.report is not None and Path(self.report).suffix.lower() != ".json":
            raise InputError(f"The report {self.report} must end in .json, since it is written as JSON.")
        computed = self.settings.get("computed_steps")
        if isinstance(computed, int) and computed > self.steps:
            raise InputError(
                f"computed_steps is {computed}, but there are only {self.steps} steps (--steps); choose fewer."
            )
        learnt = [one for name in ("plan", "profile") for one in listed(self.settings.get(name))]
        files = [path for path in learnt if isinstance(path, str | Path)]
        sources = (self.image, self.audio, self.mask, self.model, *files)
        video.check_writable(self.outputs.video)
        for path in self.outputs:
            check_output(path, *sources)


def check_ranges(**values: float) -> None:
    """Refuse numbers outside ``RANGES``, by name.

    Raises:
        InputError: says which, and what is allowed.
    """
    for name, value in values.items():
        low, high = RANGES[name]
        if not (math.isfinite(value) and low <= value <= high):
            raise InputError(f"{name} must lie between {low} and {high}, but is {value}.")


def check_settings(method: str, settings: Mapping[str, Any]) -> None:
    """Refuse an unknown method, and settings that it doesn't take.

    Raises:
        InputError: names what is known.
    """
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


def check_output(path: Path, *sources: str | Path | None) -> None:
    """Refuse a file that can't be written, or that is one of the inputs ``sources``.

    Raises:
        InputError: says which.
    """
    if path.resolve() in {Path(source).resolve() for source in sources if source is not None}:
        raise InputError(f"{path} would be written over, but it is one of the inputs; choose another name.")
    check_writable(path)


def check_writable(path: Path) -> None:
    """Refuse a file that can't be written.

    Raises:
        InputError: a folder has that name, its own folder is missing, or nothing may be written there.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file.")
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: there is no folder {path.parent}; make it first.")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"..{path.stem}-12345678-", suffix=path.suffix):
            pass
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); choose another name or folder.") from None
