"""The one harness: runs contenders on held-out clips, interleaved, and keeps a row per clip and contender."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..animation.state import model_name
from ..defaults import GUIDANCE_SCALE
from ..errors import InputError
from ..files import whole_file
from ..methods import RECIPES
from ..metrics.sync import opening_rms, speaking_range
from ..portrait.pipeline import PortraitPipeline
from .clip import Given, measure_clip, shoot
from .contenders import ABLATIONS, CORE, QUICK, REFERENCE, Contender, of_methods
from .heldout import held_out
from .report import write_report
from .spread import as_timed, measured_at_once, prepared

SCHEMA = "synccache.bench/1"
SPREAD = ("ablations", "methods")  # what counts there is quality, so one clip is timed and the others run at once
SHORT = {"methods": 6}  # frames of a clip at most, where a hundred contenders have to fit into an hour or so
LENDER = 1000  # number of the clip that methods learn from; no run measures it
SUITES: dict[str, Callable[[bool], Sequence[Contender]]] = {
    "core": lambda quick: QUICK if quick else CORE,
    "ablations": lambda quick: ABLATIONS,
    "methods": lambda quick: of_methods(RECIPES.values(), quick),
}


def run(
    suite: str,
    out: Path,
    *,
    quick: bool = False,
    clips: int | None = None,
    model: Path | None = None,
    contenders: Sequence[Contender] | None = None,
    command: str | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Run a suite and write ``bench.json``, ``bench.md`` and ``bench.png`` into ``out``.

    A clip's contenders run in an order of its own, so that a slow minute of the machine hits none in particular; a
    clip's uncached time is the median over its uncached runs of the same length (reference and controls). Rows are
    saved after every clip; rows that a stopped run left in ``out`` are taken over. The suites in ``SPREAD`` run a clip
    a core and time the first one only (``bench/spread.py``).

    Args:
        suite: a name in ``SUITES``.
        out: folder; made if missing.
        quick: fewer contenders on 2 clips (methods: on 1), each run once, for a first look.
        clips: held-out clips; 16 by default.
        model: weights; the packaged ones by default.
        contenders: instead of the suite's.
        command: what the report names as what was run.
        on_progress: called with (runs done, runs, what runs next).

    Returns what ``bench.json`` holds.

    Raises:
        InputError: an unknown suite, no or too many clips, or ``out`` holds rows of something else.
    """
    if suite not in SUITES:
        raise InputError(f"{suite!r} is not a suite. There are: {', '.join(sorted(SUITES))}.")
    count = clips if clips is not None else ((1 if suite == "methods" else 2) if quick else 16)
    if not 1 <= count < LENDER:
        raise InputError(f"clips must be at least 1 and less than {LENDER}, but is {count}.")
    chosen = list(contenders or SUITES[suite](quick))
    pipe = PortraitPipeline.load(model)
    out.mkdir(parents=True, exist_ok=True)
    config = pipe.transformer.config
    frames = min(config.frames, SHORT.get(suite, config.frames))
    document = _new_document(suite, model, frames)
    document |= {"command": command or document["command"], "beside_others": suite in SPREAD and not quick}
    rows: list[dict[str, Any]] = document["rows"]
    rows += _kept(out / "bench.json", document)
    keys = {c.key for c in chosen}
    have = {index: {r["key"] for r in rows if r["clip"] == index} for index in range(count)}
    missing = [index for index in range(count) if not have[index] >= keys]
    done, total = (count - len(missing)) * len(chosen), count * len(chosen)

    def say(what: str) -> None:
        if on_progress:
            on_progress(done, total, what)

    def tell(index: int, label: str) -> None:
        nonlocal done
        say(f"clip {index + 1} of {count}: {label}")
        done = min(done + 1, total)  # several cores that share a clip run its reference each

    def keep(index: int, found: list[dict[str, Any]]) -> None:
        rows[:] = [r for r in rows if r["clip"] != index or r["key"] not in keys] + found
        _save(out / "bench.json", document)

    people = held_out(count + 1, frames, config.image_size)  # the last one lends its audio
    spread = suite in SPREAD
    given: Given = {}
    if missing:
        shoot(pipe, people[0], people[1], Contender("warm-up", steps=2))
        say("what the methods learn beforehand")
        (lender,) = held_out(1, frames, config.image_size, LENDER)
        given = prepared(pipe, lender, chosen, out) if spread else {}
    here = [index for index in missing if not spread or (quick and index == 0)]
    for index in here:
        found = measure_clip(pipe, people[index], people[index + 1], chosen, given, partial(tell, index))
        keep(index, found)
    rest = [index for index in missing if index not in here]
    for index, found in measured_at_once(model, (frames, config.image_size), rest, chosen, given, tell):
        keep(index, found)
    say("report")
    others = [r for r in rows if r["clip"] >= count or r["key"] not in keys]
    shown = [r for r in rows if r["clip"] < count and r["key"] in keys]
    shown = as_timed(shown) if spread else shown
    rows[:] = others + shown
    _relate_openings(shown)
    document["finished"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
    write_report(document, shown, chosen, out)
    _save(out / "bench.json", document)
    return document


def _relate_openings(rows: list[dict[str, Any]]) -> None:
    """RMS differences of the mouth's opening, as a part of what the reference's mouths use over all clips."""
    own = {r["clip"]: r["opening"] for r in rows if r["contender"] == REFERENCE}
    span = max(speaking_range(np.concatenate(list(own.values()))), 1e-6)
    for row in rows:
        row["opening_rms"] = opening_rms(row["opening"], own[row["clip"]], span)
        row["opening_rms_truth"] = opening_rms(row["opening"], row["true_opening"], span)


def _new_document(suite: str, model: Path | None, frames: int) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "suite": suite,
        "command": f"synccache bench --suite {suite}",
        "version": __version__,
        "model": model_name(model),
        "guidance_scale": GUIDANCE_SCALE,
        "spread": suite in SPREAD,
        "frames": frames,
        "hardware": hardware(),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "rows": [],
    }


def hardware() -> dict[str, Any]:
    """What the figures were measured on."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        found = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        name = found[0] if found else name
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": sys.version.split()[0],
    }


def _kept(path: Path, like: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of a run that was stopped, of a document that agrees with ``like`` on what rows depend on."""
    if not path.is_file():
        return []
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        document = {}
    for name in ("schema", "suite", "version", "model", "guidance_scale", "frames"):
        if document.get(name) != like[name]:
            raise InputError(
                f"{path} holds rows with the {name} {document.get(name)!r}, and this run has {like[name]!r}. Choose "
                "another folder with --out."
            )
    return document["rows"]


def _save(path: Path, document: dict[str, Any]) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, allow_nan=False), encoding="utf-8")
