"""One run of one contender, with calls of the untouched and of the idle model in between, seconds apart."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Literal

import torch
from torch import nn

from ...anatomies import find
from ..overhead import ideal_speedup
from .contenders import Ours, Rival
from .subjects import Subject

Clock = Literal["wall", "processor"]
COMPANIONS = 8  # calls of the untouched model in a run, at most, and as many of the idle one


class Counter:
    """Counts the calls in which the last block really ran, whatever wraps it."""

    def __init__(self, network: nn.Module) -> None:
        self.calls = 0
        leaf = next(m for m in find(network).blocks[-1].modules() if isinstance(m, nn.Linear))
        leaf.register_forward_pre_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.calls += 1


def seconds_of(network: nn.Module, arguments: dict[str, Any], device: torch.device, clock: Clock = "wall") -> float:
    """Seconds of one call, to the end of what it started on a GPU.

    ``clock`` "processor" counts what all threads computed, not what they waited for on a busy machine.
    """
    now = time.perf_counter if clock == "wall" else time.process_time
    _wait(device)
    start = now()
    network(**arguments)
    _wait(device)
    return now() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_of(device: torch.device) -> int | None:
    """Most bytes allocated on a GPU since the last call; None on a processor."""
    if device.type != "cuda":
        return None
    peak = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return peak


@torch.no_grad()
def run_once(
    subject: Subject, idle: nn.Module, who: Ours | Rival, schedule: Sequence[int], steps: int, clock: Clock = "wall"
) -> dict[str, Any]:
    """One run of ``steps`` calls of one guidance branch.

    Of each kind of call (untouched, identity, computed, skipped) the median counts, so that a moment in which the
    machine does something else doesn't. ``seconds`` is the plain sum of the contender's own calls.
    """
    network = subject.twin()
    counter = Counter(network)
    took: dict[str, list[float]] = {kind: [] for kind in ("untouched", "identity", "computed", "skipped")}
    beside = {*_spread(list(schedule)), *_spread([i for i in range(steps) if i not in schedule])}
    with ExitStack() as stack:
        before = handle = None
        if isinstance(who, Ours):
            handle = stack.enter_context(who.on(network, schedule, steps))
        else:
            before = who.attach(network, schedule, steps)
        peak_of(subject.device)
        for step in range(steps):
            arguments = subject.at(1 - step / steps)
            if before is not None:
                before(step)
            kind, other = ("untouched", subject.network) if step in schedule else ("identity", idle)
            if step in beside and step % 2:
                took[kind].append(seconds_of(other, arguments, subject.device, clock))
            calls = counter.calls
            own = seconds_of(network, arguments, subject.device, clock)
            took["computed" if counter.calls > calls else "skipped"].append(own)
            if step in beside and not step % 2:
                took[kind].append(seconds_of(other, arguments, subject.device, clock))
        peak, held = peak_of(subject.device), None if handle is None else handle.trace.bytes_peak
    return _figures(took, steps, held, peak)


def _spread(indices: list[int]) -> list[int]:
    return indices[:: max(1, math.ceil(len(indices) / COMPANIONS))]


def _figures(took: dict[str, list[float]], steps: int, held: int | None, peak: int | None) -> dict[str, Any]:
    of = {kind: statistics.median(values) if values else None for kind, values in took.items()}
    computed, full, idle = len(took["computed"]), of["untouched"], of["identity"]
    assert full is not None and idle is not None
    own = computed * (of["computed"] or 0.0) + (steps - computed) * (of["skipped"] or 0.0)
    ideal = ideal_speedup(steps, computed, full, idle)
    return {
        "computed": computed, "calls": of, "seconds": sum(took["computed"]) + sum(took["skipped"]),
        "speedup": steps * full / own, "ideal": ideal, "of_ideal": steps * full / own / ideal,
        "cache_bytes": held, "peak_bytes": peak,
    }  # fmt: skip
