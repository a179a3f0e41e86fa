"""The measurement: every contender on every model, in turns."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np
import torch

from ...errors import InputError
from ...methods.settings import unknown
from ..run import hardware
from .contenders import OURS, RIVALS, Ours, Rival
from .subjects import SCALES, SUBJECTS, Subject, prepare
from .timed import Clock, peak_of, run_once, seconds_of

SCHEMA = "synccache.fullsize/1"
Progress = Callable[[int, int, str], None]


def default_schedule(steps: int) -> list[int]:
    """Indices of the computed steps: the first tenth, every fourth one after that, and the last."""
    warmup = max(2, steps // 10)
    return sorted({*range(warmup), *range(warmup - 1, steps, 4), steps - 1})


def measure(
    models: Sequence[str] = SUBJECTS,
    *,
    device: str | None = None,
    scale: str | None = None,
    steps: int = 40,
    skip: Sequence[int] | None = None,
    repeats: int = 2,
    clock: Clock = "wall",
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure every contender on every model.

    Args:
        models: names in ``SUBJECTS``.
        device: "cuda" or "cpu"; by default the GPU, if there is one.
        scale: one of ``SCALES``; by default "full" on a GPU and "small" on a processor.
        steps: denoising steps T of a run of one guidance branch.
        skip: indices of the skipped steps; by default all that ``default_schedule`` doesn't compute.
        repeats: runs of each contender, in turns.
        clock: "wall", or "processor": what the threads computed, for a processor that has other work beside it.
        on_progress: called with (runs done, runs, what runs next).

    Returns a document whose ``rows`` have one entry a model and contender.

    Raises:
        InputError: an unknown model, device or scale, or steps that can't be skipped.
    """
    for name in models:
        if name not in SUBJECTS:
            raise InputError(unknown("model of this benchmark", name, SUBJECTS))
    where = _device(device)
    scale = scale or ("full" if where.type == "cuda" else "small")
    if scale not in SCALES:
        raise InputError(unknown("scale", scale, SCALES))
    schedule = _schedule(steps, skip)
    if not 1 <= repeats <= 1000:
        raise InputError(f"repeats must lie between 1 and 1000, but is {repeats}.")
    if clock not in ("wall", "processor") or (clock == "processor" and where.type == "cuda"):
        raise InputError(f"clock={clock!r} can't be used on {where.type}. Give wall, or on a processor also processor.")
    dtype = torch.bfloat16 if where.type == "cuda" else torch.float32
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "hardware": {**hardware(), "gpu": torch.cuda.get_device_name(where) if where.type == "cuda" else None},
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": where.type, "scale": scale, "dtype": str(dtype).removeprefix("torch."), "steps": steps,
        "computed": schedule, "skipped": [i for i in range(steps) if i not in schedule], "repeats": repeats,
        "clock": clock, "models": [], "rows": [],
    }  # fmt: skip
    turns = repeats * len(OURS + RIVALS)
    for number, name in enumerate(models):

        def progress(done: int, note: str, before: int = number * turns, name: str = name) -> None:
            if on_progress is not None:
                on_progress(before + done, len(models) * turns, f"{name}: {note}")

        progress(0, "building")
        about, rows = _measure_one(prepare(name, scale, where, dtype), schedule, steps, repeats, clock, progress)
        document["models"].append(about)
        document["rows"] += rows
        gc.collect()
    return document


def _device(given: str | None) -> torch.device:
    if given not in (None, "cuda", "cpu"):
        raise InputError(f"device={given!r} can't be used. Give cuda or cpu.")
    if given == "cuda" and not torch.cuda.is_available():
        raise InputError("device='cuda' can't be used: no GPU is visible. Leave it out, or give cpu.")
    return torch.device(given or ("cuda" if torch.cuda.is_available() else "cpu"))


def _schedule(steps: int, skip: Sequence[int] | None) -> list[int]:
    if not 4 <= steps <= 1000:
        raise InputError(f"steps must lie between 4 and 1000, but is {steps}.")
    if skip is None:
        return default_schedule(steps)
    wrong = [i for i in skip if not 1 <= i < steps]
    if wrong or not skip:
        found = f"{wrong[0]} is none of them" if wrong else "none was given"
        raise InputError(f"Steps 1 to {steps - 1} can be skipped, but {found}. Give their indices, such as 4,5,6.")
    return [i for i in range(steps) if i not in set(skip)]


def _measure_one(
    subject: Subject,
    schedule: list[int],
    steps: int,
    repeats: int,
    clock: Clock,
    progress: Callable[[int, str], None],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    missing = {r.label: r.missing(subject.network) for r in RIVALS}
    running: list[Ours | Rival] = [*OURS, *(r for r in RIVALS if missing[r.label] is None)]
    idle = subject.idle_twin()
    with torch.no_grad():
        seconds_of(subject.network, subject.at(1.0), subject.device)
        peak_of(subject.device)
        seconds_of(subject.network, subject.at(1.0), subject.device)
    about = {
        "model": subject.model.name, "class": subject.model.cls, "parameters": subject.parameters,
        "blocks": len(subject.anatomy.blocks), "sites": list(subject.anatomy.sites or ()),
        "width": subject.size.width, "height": subject.size.height, "frames": subject.size.frames,
        "peak_bytes": peak_of(subject.device),
    }  # fmt: skip
    runs: dict[str, list[dict[str, Any]]] = {who.label: [] for who in running}
    for turn in range(repeats):
        for place, at in enumerate(np.random.default_rng((11, turn)).permutation(len(running))):
            progress(turn * len(OURS + RIVALS) + place, running[at].label)
            runs[running[at].label].append(run_once(subject, idle, running[at], schedule, steps, clock))
    rows = [{"model": subject.model.name, "contender": label, **summarise(found)} for label, found in runs.items()]
    rows += [{"model": subject.model.name, "contender": label, "note": why} for label, why in missing.items() if why]
    return about, rows


def summarise(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the runs of one contender on one model, with the lowest and highest of what is judged by."""
    entry: dict[str, Any] = {"computed": runs[0]["computed"], "seconds": [r["seconds"] for r in runs]}
    for kind in ("untouched", "identity", "computed", "skipped"):
        values = [r["calls"][kind] for r in runs if r["calls"][kind] is not None]
        entry[f"{kind}_seconds"] = statistics.median(values) if values else None
    if entry["skipped_seconds"] is not None:
        entry["extra"] = (entry["skipped_seconds"] - entry["identity_seconds"]) / entry["untouched_seconds"]
    for name in ("speedup", "ideal", "of_ideal"):
        values = [r[name] for r in runs]
        entry[name], entry[f"{name}_range"] = statistics.median(values), [min(values), max(values)]
    for name in ("cache_bytes", "peak_bytes"):
        held = [r[name] for r in runs if r[name] is not None]
        entry[name] = max(held) if held else None
    return entry
