"""The finished clips of an animation, kept beside its video until that is written, so that a stopped job can go on.

They lie in a folder named after the video, ``talk.mp4.resume``: what the job is in ``job.json``, and a safetensors file
for each clip.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from .. import __version__
from ..core.notices import notice
from ..documents import read_document, write_document
from ..errors import InputError
from ..files import whole_file, writing
from ..portrait.pipeline import WEIGHTS
from ..trace import Record
from .report import plain
from .request import Request
from .take import Clip

SCHEMA, VERSION = "synccache.resume", 1


class Kept:
    """The kept clips of one job; ``takes`` are named ``"uncached"`` and ``"cached"``.

    Args:
        request: what is made.
        clips: how many a take has.

    Raises:
        InputError: the request asks to resume, and what is kept is of another job.
    """

    def __init__(self, request: Request, clips: int) -> None:
        self.folder = folder_of(request.out)
        self._job = {"clips": clips, **_job(request)}
        self._ours = self._full = False
        there = len(list(self.folder.glob("*.safetensors")))
        if not (self.folder / "job.json").is_file():
            return
        if request.resume:
            self._check()
            self._ours = True
        elif there:
            text = (
                f"{self.folder} holds {there} finished clips of a job that was stopped, which --resume would go on "
                "from. They are replaced as soon as the first clip of this job is finished."
            )
            notice(text)

    def __len__(self) -> int:
        return len(list(self.folder.glob("*.safetensors"))) if self._ours else 0

    def clips(self, take: str) -> list[Clip]:
        """The finished clips of a take, from the first one on; a file that can't be read ends them."""
        found: list[Clip] = []
        while self._ours and (clip := _read(self._file(take, len(found)))) is not None:
            found.append(clip)
        return found

    def add(self, take: str, index: int, clip: Clip) -> None:
        """Keep one more clip; where that fails, say so and keep no others: the job itself can go on."""
        if self._full:
            return
        told = {"seconds": clip.seconds, "records": [asdict(record) for record in clip.records]}
        content = save({"video": clip.video.cpu().contiguous()}, {"synccache": json.dumps(told, default=str)})
        try:
            if not self._ours:
                self.remove()
                with writing(self.folder):
                    self.folder.mkdir(parents=True, exist_ok=True)
                write_document(self.folder / "job.json", SCHEMA, VERSION, self._job)
                self._ours = True
            with whole_file(self._file(take, index)) as temporary:
                temporary.write_bytes(content)
        except InputError as error:
            self._full = True
            if not len(self):
                self.remove()
            notice(f"The finished clips can't be kept, so a job that is stopped starts from the last one kept: {error}")

    def remove(self) -> None:
        """Delete what is kept, once it isn't needed any more."""
        for file in (*self.folder.glob("*cached-*.safetensors"), self.folder / "job.json"):
            file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # there is none, or it holds something of the user's
            self.folder.rmdir()

    def _file(self, take: str, index: int) -> Path:
        return self.folder / f"{take}-{index:04d}.safetensors"

    def _check(self) -> None:
        known = read_document(self.folder / "job.json", SCHEMA, VERSION)
        for name, value in self._job.items():
            if known.get(name) != value:
                short = all(isinstance(v, str | int | float | bool | None) for v in (value, known.get(name)))
                text = f"{name} {known.get(name)!r}, not {value!r}" if short else f"another value of {name}"
                raise InputError(
                    f"{self.folder} is of another job, with {text}: give the command that was stopped, or leave out "
                    "--resume to start anew."
                )


def folder_of(out: Path) -> Path:
    """Where the finished clips of a video are kept."""
    return Path(out).with_name(f"{Path(out).name}.resume")


def model_name(path: Path | None) -> str:
    """File name and start of the SHA-256 of a model's weights."""
    with contextlib.ExitStack() as stack:
        packaged = files("synccache.portrait") / "assets" / WEIGHTS
        file = stack.enter_context(as_file(packaged)) if path is None else Path(path)
        return _named(file)


def _job(request: Request) -> dict[str, Any]:
    """All that the pixels of a clip depend on, as JSON gives it back."""
    job = {
        "image": _named(request.image),
        "audio": _named(request.audio),
        "mask": request.mask and _named(request.mask),
        "model": model_name(request.model),
        "method": request.method,
        "profiles": [_named(path) for path in request.learnt],
        "settings": plain(request.settings),
        "synccache": __version__,
        "torch": torch.__version__,
        **{n: getattr(request, n) for n in ("steps", "seed", "guidance_scale", "compare", "crop", "device")},
    }
    return json.loads(json.dumps(job))


def _named(path: Path) -> str:
    path = Path(path)
    return f"{path.name} (sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]})"


def _read(file: Path) -> Clip | None:
    try:
        with safe_open(str(file), framework="pt") as stored:
            told: Mapping[str, Any] = json.loads(stored.metadata()["synccache"])
            video = stored.get_tensor("video")
        return Clip(video, float(told["seconds"]), tuple(Record(**record) for record in told["records"]))
    except Exception:  # missing, or damaged in whatever way: the clip is made again
        return None
