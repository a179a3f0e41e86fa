"""One clip: its contenders are run in an order of its own, and judged against the uncached one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from .. import cached
from ..anatomies import find
from ..handle import Handle
from ..metrics.fidelity import psnr
from ..metrics.sync import sync
from ..portrait.data import to_pixels
from ..portrait.pipeline import PortraitPipeline
from ..portrait.render import measure_opening
from ..scopes import Segments, inner_sites, random_boundaries
from ..trace import Trace
from .contenders import REFERENCE, Contender
from .heldout import HeldOut, silence
from .overhead import ideal_speedup, identity_share

Timing = Literal["each", "alone", "none"]
PACE_STEPS = 1
Given = Mapping[str, Mapping[str, Any]]  # by contender: settings in the place of its own


@dataclass(frozen=True)
class Shot:
    """What one run gave.

    Attributes:
        frames: float32 [T, H, W, 3] in 0..1.
        row: the row's own part.
        live: blocks that run on a skipped step; None where whole blocks aren't what is skipped, or nothing is.
        calls: of the model on a skipped step, at least in part; 1 where guidance is forecast.
    """

    frames: np.ndarray
    row: dict[str, Any]
    live: frozenset[int] | None = None
    calls: int = 2


def measure_clip(
    pipe: PortraitPipeline,
    person: HeldOut,
    other: HeldOut,
    chosen: Sequence[Contender],
    given: Given | None = None,
    on_run: Callable[[str], None] | None = None,
    timing: Timing = "each",
) -> list[dict[str, Any]]:
    """A row for each contender; ``other`` lends its audio, ``on_run`` is called with a label before each run.

    ``timing`` "each": this clip is one of many that are timed. "alone": the only one; then every contender is run three
    times, for a median, and seconds are put at one pace of the machine. "none": seconds won't be used.
    """
    alone = timing == "alone"
    runs = list(chosen) + [c for c in chosen if c.method is not None] * (2 if alone else 0)
    order = np.random.default_rng((7, person.index)).permutation(len(runs))
    shots: dict[str, Shot] = {}
    costs: dict[str, list[float]] = {}
    taken: list[tuple[str, float]] = []
    paces = [_pace(pipe, person)] if alone else []
    for at in order:
        contender = runs[at]
        if on_run and contender.label not in shots:
            on_run(contender.label)
        shot = shoot(pipe, person, other, contender, (given or {}).get(contender.label))
        shots.setdefault(contender.label, shot)
        if shot.row.get("skipped_cost") is not None:
            costs.setdefault(contender.label, []).append(shot.row["skipped_cost"])
        if contender.method is not None:
            taken.append((contender.label, shot.row["seconds"]))
            paces += [_pace(pipe, person)] if alone else []
    taken = _at_one_pace(taken, paces) if alone else taken
    for label, shot in shots.items():
        shot.row["seconds"] = _median([seconds for of, seconds in taken if of == label])
        shot.row["skipped_cost"] = _median(costs.get(label, []))
    full = {c.label for c in chosen if c.full}
    uncached = _median([seconds for label, seconds in taken if label in full])
    assert uncached is not None
    lives = {s.live for s in shots.values() if s.live is not None} if timing != "none" else ()
    idle = {live: identity_share(pipe, person, live) for live in lives}
    return _judge(person, chosen, shots, uncached, idle)


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def _at_one_pace(taken: Sequence[tuple[str, float]], paces: Sequence[float]) -> list[tuple[str, float]]:
    """Seconds as they would be at the median pace; a run's own is the median of the three measured before and after."""
    usual, found = float(np.median(paces)), []
    for at, (label, seconds) in enumerate(taken):
        own = float(np.median(paces[max(0, at - 2) : at + 4]))
        found.append((label, seconds * usual / own))
    return found


def _pace(pipe: PortraitPipeline, person: HeldOut) -> float:
    """Seconds of ``PACE_STEPS`` steps of the untouched model."""
    clip = person.clip
    start = time.perf_counter()
    pipe.denoise(to_pixels(clip.portrait)[None], clip.features[None], steps=PACE_STEPS)
    return time.perf_counter() - start


def shoot(
    pipe: PortraitPipeline,
    person: HeldOut,
    other: HeldOut,
    contender: Contender,
    given: Mapping[str, Any] | None = None,
) -> Shot:
    """Run one contender, with ``given`` settings in the place of its own."""
    clip = person.clip
    base = {"clip": person.index, "contender": contender.label, "key": contender.key, "control": contender.control}
    if contender.method is None:
        still = np.repeat(clip.portrait[None].astype(np.float32) / 255, len(clip.frames), 0)
        return Shot(still, {**base, "seconds": None, "computed_steps": 0})
    heard = {"own": clip.features, "other": other.clip.features, "silence": silence(len(clip.frames))}[contender.speech]
    seed = person.index + (500_000 if contender.reseeded else 0)
    settings = dict(contender.settings if given is None else given)
    if isinstance(settings.get("boundaries"), int):
        settings["boundaries"] = _random_boundaries(pipe, settings["boundaries"])
    ran = _Ran(find(pipe.transformer).blocks)
    with cached(pipe, contender.method, **settings) as handle, ran:
        if person.mask is not None:
            handle.mask = torch.from_numpy(person.mask)
        start = time.perf_counter()
        video = pipe.denoise(to_pixels(clip.portrait)[None], heard[None], steps=contender.steps, seeds=[seed])
        seconds = time.perf_counter() - start
        trace = handle.trace
        computed, skipped = (list(_seconds_by_step(trace, d).values()) for d in ("computed", "skipped"))
        row = {
            **base,
            "seconds": seconds,
            "computed_steps": trace.computed(),
            "skipped_steps": trace.skipped(),
            "bytes": trace.bytes_peak,
            "probe_bytes": trace.probe_bytes_peak,
            "skipped_cost": float(np.median(skipped) / np.median(computed)) if skipped else None,
        }
        live, calls = _live(handle, ran.times) if skipped else None, 1 if handle.method.guidance is not None else 2
    return Shot(((video[0] + 1) / 2).permute(1, 2, 3, 0).numpy(), row, live, calls)


def _seconds_by_step(trace: Trace, decision: str) -> dict[int, float]:
    """Seconds of each step whose deciding branch was ``decision``, over all branches."""
    seconds = {r.step: 0.0 for r in trace.of_run() if r.decides and r.decision == decision}
    for record in trace.of_run():
        if record.step in seconds:
            seconds[record.step] += record.seconds
    return seconds


class _Ran:
    """Counts how often each block ran."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        self.blocks, self.times = blocks, [0] * len(blocks)

    def __enter__(self) -> None:
        self._hooks = [b.register_forward_pre_hook(partial(self._count, i)) for i, b in enumerate(self.blocks)]

    def _count(self, index: int, *_: Any) -> None:
        self.times[index] += 1

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()


def _live(handle: Handle, ran: Sequence[int]) -> frozenset[int] | None:
    """Blocks in no region; None where a region isn't made of whole blocks, or some regions are left out at a time."""
    regions = handle.regions
    if not regions or any(not r.members or r.part for r in regions):
        return None
    left_out = {m for r in regions for m in r.members}
    if len({ran[m] for m in left_out}) > 1:
        return None
    return frozenset(range(len(handle.anatomy.blocks))) - left_out


def _random_boundaries(pipe: PortraitPipeline, seed: int) -> list[int]:
    anatomy = find(pipe.transformer)
    planned = Segments(0.4).regions(anatomy, 1)
    return list(random_boundaries(inner_sites(anatomy, 1), len(planned), seed))


def _judge(
    person: HeldOut,
    chosen: Sequence[Contender],
    shots: Mapping[str, Shot],
    uncached: float,
    idle: Mapping[frozenset[int], tuple[float, float]],
) -> list[dict[str, Any]]:
    clip, reference = person.clip, shots[REFERENCE].frames
    truth = [float(v) for v in measure_opening(clip.frames, clip.mouth, clip.portrait)]
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
            "true_opening": truth,
            "sync": found["correlation"],
            "lag": found["best_lag"],
        }
        if seconds is not None and row.get("skipped_steps") and shot.live in idle:
            n, t = row["computed_steps"], contender.steps
            run, call = (share * shot.calls / 2 for share in idle[shot.live])  # type: ignore[index]
            row["identity_call"] = call
            row["ideal_speedup"] = ideal_speedup(t, n, 1.0, run) * 40 / t
            row["of_ideal"] = row["speedup"] / row["ideal_speedup"]
        rows.append(row)
    return rows


def _bytes(frames: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(np.nan_to_num(frames), 0, 1) * 255).astype(np.uint8)
