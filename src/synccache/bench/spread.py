"""Many contenders: what they need first, then a clip a core, as many at a time as there are cores; one clip is timed.

Batches of clips gain nothing on a CPU, and in a batch the worst sample decides for all. So each clip runs by itself, on
one core. The first one is timed, beside the load of the others, which is the same for all that run on it. Of the others
the first steps that their runs share are computed once, so their seconds mean nothing: those of such a row are the
first clip's, plus or minus its own number of computed steps at what a computed step costs over a skipped one.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch

from .. import cached
from ..anatomies import find as find_anatomy
from ..core.method import Method
from ..core.types import innermost
from ..forecasters import Reuse
from ..gates import Budget, Never, threshold_for
from ..memory import keep_freed_memory
from ..methods import RECIPES, find
from ..methods.names import profiled
from ..planner import learn_profile, plan_of
from ..planner.instability import step_errors
from ..portrait.data import to_pixels
from ..portrait.pipeline import PortraitPipeline
from ..profiles import shipped_profile
from ..scopes import Nothing
from .clip import Given, measure_clip, shoot
from .contenders import REFERENCE, Contender
from .heldout import HeldOut, held_out
from .start import shared_start

_PIPES: list[PortraitPipeline] = []  # of this process, if it is one of several
_BEGUN: list[Any] = []  # the queue in which it says what it begins with


def prepared(pipe: PortraitPipeline, lender: HeldOut, chosen: Sequence[Contender], out: Path) -> dict[str, dict]:
    """Settings by contender, learnt on a clip that isn't measured: thresholds for numbers of steps, and what no profile
    of the package tells of these weights."""
    anatomy, scheduler = find_anatomy(pipe.transformer), type(pipe.scheduler).__name__
    given: dict[str, dict[str, Any]] = {}
    errors: dict[tuple[Any, ...], Any] = {}
    for contender in chosen:
        if contender.method is None:
            continue
        recipe, settings = find(contender.method), dict(contender.settings)
        missing = [n for n in profiled(contender.method, RECIPES) if not shipped_profile(n, anatomy, scheduler)]
        learnt = [str(_profile(pipe, lender, name, out)) for name in missing]
        if learnt:
            settings["profile"] = learnt[0] if len(learnt) == 1 else learnt
        if "computed_steps" in settings and "threshold" in recipe.settings:
            settings |= _threshold(pipe, lender, contender, settings, errors)
        if settings != contender.settings:
            given[contender.label] = settings
    return given


def _threshold(
    pipe: PortraitPipeline,
    lender: HeldOut,
    contender: Contender,
    settings: Mapping[str, Any],
    errors: dict[tuple[Any, ...], Any],
) -> dict[str, Any]:
    """The threshold at which the wanted number of steps is computed on the lender's clip.

    What a probe measures depends on its mask weight alone, so all methods with one share a recording.
    """
    own = {k: v for k, v in settings.items() if not (k == "boundaries" and isinstance(v, int))}
    with cached(pipe, contender.method, **own) as handle:
        gate: Any = handle.method.gate
        if not isinstance(gate, Budget):
            return {}
        weight = handle.settings.get("mask_weight") or 1.0
        key = (contender.steps, contender.method if gate.errors is None else weight)
    mask = None if lender.mask is None else torch.from_numpy(lender.mask)
    if key not in errors and gate.errors is None:
        watching = Method(Never(innermost(gate).measure), Nothing(), Reuse(), "recording")
        with cached(pipe, watching, mask=mask) as handle:
            _run(pipe, lender, contender.steps)
        errors[key] = step_errors(handle.trace)
    if key not in errors:
        watched = plan_of(pipe, lambda: _run(pipe, lender, contender.steps), mask=mask, mask_weight=weight)
        errors[key] = watched.errors
    found = threshold_for(gate.gate, errors[key], settings["computed_steps"])
    return {"threshold": found, "computed_steps": None}


def _profile(pipe: PortraitPipeline, lender: HeldOut, method: str, out: Path) -> Path:
    path = out / f"profile-{method}.safetensors"
    if not path.is_file():
        mask = None if lender.mask is None else torch.from_numpy(lender.mask)
        source = {"clip": f"held-out {lender.index}"}
        learn_profile(pipe, method, lambda: _run(pipe, lender), mask=mask, source=source).save(path)
    return path


def _run(pipe: PortraitPipeline, person: HeldOut, steps: int = 40) -> None:
    clip = person.clip
    pipe.denoise(to_pixels(clip.portrait)[None], clip.features[None], steps=steps, seeds=[person.index])


def measured_at_once(
    model: Path | None,
    size: tuple[int, int],
    clips: Sequence[int],
    chosen: Sequence[Contender],
    given: Given,
    on_run: Callable[[int, str], None],
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """(clip, its rows) of each of ``clips``, as they get done; clip 0 is timed. ``size``: a clip's frames and pixels.

    Several cores share a clip where some would be idle. ``on_run`` is called with clip and label before each run.
    """
    if not clips:
        return
    cores, judged = os.cpu_count() or 1, [index for index in clips if index != 0]
    over = len(judged) % cores
    shares = {index: [list(chosen)] for index in clips}
    shares |= {index: _shares(chosen, cores // over) for index in judged[len(judged) - over :]}
    context = multiprocessing.get_context("spawn")
    begun, workers = context.Queue(), min(cores, sum(map(len, shares.values())))
    done: dict[int, dict[str, dict[str, Any]]] = {index: {} for index in clips}
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(model, begun)) as pool:
        jobs = {pool.submit(_one, index, size, share, given): index for index in shares for share in shares[index]}
        waiting = set(jobs)
        try:
            while waiting:
                finished, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                while not begun.empty():
                    on_run(*begun.get())
                for job in finished:
                    index = jobs[job]
                    done[index] |= {row["contender"]: row for row in job.result()}
                    if len(done[index]) == len(chosen):
                        yield index, [done[index][c.label] for c in chosen]
        except BaseException:  # stopped, or one of them failed: a clip takes minutes, which nobody waits for
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def _shares(chosen: Sequence[Contender], count: int) -> list[list[Contender]]:
    """``chosen`` in ``count`` parts at most, the reference in each."""
    reference = [c for c in chosen if c.label == REFERENCE]
    others = [c for c in chosen if c.label != REFERENCE]
    count = max(1, min(count, len(others)))
    return [[*reference, *others[start::count]] for start in range(count)]


def _begin(model: Path | None, begun: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that waits for this one stops it
    keep_freed_memory()
    torch.set_num_threads(1)
    _PIPES[:], _BEGUN[:] = [PortraitPipeline.load(model)], [begun]


def _one(index: int, size: tuple[int, int], chosen: Sequence[Contender], given: Given) -> list[dict[str, Any]]:
    person, other = held_out(2, *size, index)

    def tell(label: str) -> None:
        _BEGUN[0].put((index, label))

    if index == 0:
        shoot(_PIPES[0], person, other, Contender("warm-up", steps=2))
        return measure_clip(_PIPES[0], person, other, chosen, given, tell, timing="alone")
    with shared_start(_PIPES[0], person):
        return measure_clip(_PIPES[0], person, other, chosen, given, tell, timing="none")


def as_timed(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows, those of later clips with the seconds that they would have taken where the first clip was timed."""
    timed = {r["contender"]: r for r in rows if r["clip"] == 0}
    uncached = timed[REFERENCE]["seconds"] * timed[REFERENCE]["speedup"]
    step = uncached / timed[REFERENCE]["computed_steps"]
    found = []
    for row in rows:
        own, like = dict(row), timed[row["contender"]]
        if own["clip"] != 0 and like["seconds"] is not None:
            skipped, computed = like["skipped_steps"], like["computed_steps"]
            saved = step - (like["seconds"] - computed * step) / skipped if skipped else 0.0
            own["seconds"] = like["seconds"] + (own["computed_steps"] - computed) * saved
            own["speedup"] = uncached / own["seconds"]
            for name in ("skipped_cost", "ideal_speedup", "of_ideal", "identity_call"):
                own[name] = like.get(name)
        found.append(own)
    return found
