"""The one harness: runs contenders on held-out clips, interleaved, and keeps a row per clip and contender."""

from __future__ import annotations

import itertools
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import cached
from ..anatomies import find
from ..errors import InputError
from ..media.video import whole_file
from ..metrics.fidelity import psnr
from ..metrics.sync import opening_rms, speaking_range, sync
from ..planner.boundaries import random_boundaries
from ..portrait.data import to_pixels
from ..portrait.pipeline import PortraitPipeline
from ..portrait.render import measure_opening
from ..scopes.segments import Segments, inner_sites
from .contenders import ABLATIONS, CORE, QUICK, REFERENCE, Contender
from .heldout import HeldOut, held_out, silence
from .overhead import ideal_speedup, identity_seconds
from .report import write_report

SCHEMA = "synccache.bench/1"
SUITES: dict[str, Sequence[Contender]] = {"core": CORE, "ablations": ABLATIONS}


@dataclass(frozen=True)
class Shot:
    """What one run gave: frames float32 [T, H, W, 3] in 0..1, and the row's own part."""

    frames: np.ndarray
    row: dict[str, Any]


def run(
    suite: str,
    out: Path,
    *,
    quick: bool = False,
    clips: int | None = None,
    model: Path | None = None,
    contenders: Sequence[Contender] | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Run a suite and write ``bench.json``, ``bench.md`` and ``bench.png`` into ``out``.

    A clip's contenders run in an order of its own, so that a slow minute of the machine hits none in particular; a
    clip's uncached time is the median over its uncached runs of the same length (reference and controls). Rows are
    saved after every clip; rows that a stopped run left in ``out`` are taken over.

    Args:
        suite: a name in ``SUITES``.
        out: folder; made if missing.
        quick: fewer contenders on 2 clips, for a first look.
        clips: held-out clips; 16 by default.
        model: weights; the packaged ones by default.
        contenders: instead of the suite's.
        on_progress: called with (runs done, runs, what runs next).

    Returns what ``bench.json`` holds.

    Raises:
        InputError: an unknown suite, no clips, or ``out`` holds something else.
    """
    if suite not in SUITES:
        raise InputError(f"{suite!r} is not a suite. There are: {', '.join(sorted(SUITES))}.")
    count = clips if clips is not None else (2 if quick else 16)
    if count < 1:
        raise InputError(f"clips must be at least 1, but is {count}.")
    chosen = list(contenders or (QUICK if quick and suite == "core" else SUITES[suite]))
    pipe = PortraitPipeline.load(model)
    out.mkdir(parents=True, exist_ok=True)
    config = pipe.transformer.config
    people = held_out(count + 1, config.frames, config.image_size)  # the last one lends its audio
    document = _kept(out / "bench.json", suite) or _new_document(suite, model)
    rows: list[dict[str, Any]] = document["rows"]
    done, total = 0, count * len(chosen)
    _shoot(pipe, people[0], people[1], Contender("warm-up", steps=2))
    for person, other in itertools.pairwise(people):
        have = {r["key"] for r in rows if r["clip"] == person.index}
        if have >= {c.key for c in chosen}:
            done += len(chosen)
            continue
        rows[:] = [r for r in rows if r["clip"] != person.index]
        shots: dict[str, Shot] = {}
        for at in np.random.default_rng((7, person.index)).permutation(len(chosen)):
            contender = chosen[at]
            if on_progress:
                on_progress(done, total, f"clip {person.index + 1} of {count}: {contender.label}")
            shots[contender.label] = _shoot(pipe, person, other, contender)
            done += 1
        rows += _judge(person, chosen, shots, identity_seconds(pipe, person))
        _save(out / "bench.json", document)
    if on_progress:
        on_progress(total, total, "report")
    _relate_openings(rows)
    document["finished"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
    write_report(document, chosen, out)
    _save(out / "bench.json", document)
    return document


def _shoot(pipe: PortraitPipeline, person: HeldOut, other: HeldOut, contender: Contender) -> Shot:
    clip = person.clip
    base = {"clip": person.index, "contender": contender.label, "key": contender.key, "control": contender.control}
    if contender.method is None:
        still = np.repeat(clip.portrait[None].astype(np.float32) / 255, len(clip.frames), 0)
        return Shot(still, {**base, "seconds": None, "computed_steps": 0})
    heard = {"own": clip.features, "other": other.clip.features, "silence": silence(len(clip.frames))}[contender.speech]
    seed = person.index + (500_000 if contender.reseeded else 0)
    settings = dict(contender.settings)
    if isinstance(settings.get("boundaries"), int):
        settings["boundaries"] = _random_boundaries(pipe, settings["boundaries"])
    with cached(pipe, contender.method, **settings) as handle:
        if person.mask is not None:
            handle.mask = torch.from_numpy(person.mask)
        start = time.perf_counter()
        video = pipe.denoise(to_pixels(clip.portrait)[None], heard[None], steps=contender.steps, seeds=[seed])
        seconds = time.perf_counter() - start
        trace = handle.trace
        by = {d: [r.seconds for r in trace.of_run() if r.decision == d] for d in ("computed", "skipped")}
        row = {
            **base,
            "seconds": seconds,
            "computed_steps": trace.computed(),
            "skipped_steps": trace.skipped(),
            "bytes": trace.bytes_peak,
            "probe_bytes": trace.probe_bytes_peak,
            "skipped_cost": float(np.median(by["skipped"]) / np.median(by["computed"])) if by["skipped"] else None,
        }
    return Shot(((video[0] + 1) / 2).permute(1, 2, 3, 0).numpy(), row)


def _random_boundaries(pipe: PortraitPipeline, seed: int) -> list[int]:
    anatomy = find(pipe.transformer)
    planned = Segments(0.4).regions(anatomy, 1)
    return list(random_boundaries(inner_sites(anatomy, 1), len(planned), seed))


def _judge(
    person: HeldOut, chosen: Sequence[Contender], shots: Mapping[str, Shot], identity: float
) -> list[dict[str, Any]]:
    clip, reference = person.clip, shots[REFERENCE].frames
    uncached = float(np.median([shots[c.label].row["seconds"] for c in chosen if c.full]))
    call = uncached / (2 * 40)
    rows = []
    for contender in chosen:
        shot = shots[contender.label]
        opening = measure_opening(_bytes(shot.frames), clip.mouth, clip.portrait)
        found = sync(opening, clip.opening)
        seconds = shot.row["seconds"]
        row = {
            **shot.row,
            "speedup": None if seconds is None else uncached / seconds,
            "psnr_frame_db": psnr(shot.frames, reference),
            "psnr_person_db": psnr(shot.frames, reference, clip.person),
            "psnr_mouth_db": psnr(shot.frames, reference, clip.mouth),
            "opening": [float(v) for v in opening],
            "true_opening": [float(v) for v in measure_opening(clip.frames, clip.mouth, clip.portrait)],
            "sync": found["correlation"],
            "lag": found["best_lag"],
            "identity_call": identity / call,
        }
        if seconds is not None and row.get("skipped_steps"):
            n, t = row["computed_steps"], row["computed_steps"] + row["skipped_steps"]
            row["ideal_speedup"] = ideal_speedup(t, n, call, identity)
            row["of_ideal"] = row["speedup"] / row["ideal_speedup"]
        rows.append(row)
    return rows


def _relate_openings(rows: list[dict[str, Any]]) -> None:
    """RMS differences of the mouth's opening, as a part of what the reference's mouths use over all clips."""
    own = {r["clip"]: r["opening"] for r in rows if r["contender"] == REFERENCE}
    span = max(speaking_range(np.concatenate(list(own.values()))), 1e-6)
    for row in rows:
        row["opening_rms"] = opening_rms(row["opening"], own[row["clip"]], span)
        row["opening_rms_truth"] = opening_rms(row["opening"], row["true_opening"], span)


def _bytes(frames: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(frames, 0, 1) * 255).astype(np.uint8)


def _new_document(suite: str, model: Path | None) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "suite": suite,
        "command": f"synccache bench --suite {suite}",
        "model": "packaged" if model is None else model.name,
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


def _kept(path: Path, suite: str) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        document = {}
    if document.get("schema") != SCHEMA or document.get("suite") != suite:
        raise InputError(f"{path} is not a {suite} benchmark of this version. Choose another folder with --out.")
    return document


def _save(path: Path, document: dict[str, Any]) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, allow_nan=False), encoding="utf-8")
