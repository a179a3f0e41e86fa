"""Seconds in the transformer, of computed and of skipped steps, without waiting for the device."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Hashable
from statistics import median
from typing import Any

import torch

KEPT = 15  # latest steps of each kind, of which the median counts


class Kind:
    """Steps of one kind: their ``count``, ``seconds`` in all, and the latest ones' seconds, without the first one's,
    which warms up."""

    def __init__(self) -> None:
        self.count, self.seconds = 0, 0.0
        self.latest: deque[float] = deque(maxlen=KEPT)

    def add(self, seconds: float) -> None:
        if self.count:
            self.latest.append(seconds)
        self.count, self.seconds = self.count + 1, self.seconds + seconds

    @property
    def typical(self) -> float | None:
        """Median of the latest ones; of the first one where it is the only one; None where there are none."""
        return median(self.latest) if self.latest else self.seconds if self.count else None


class Timing:
    """Seconds of steps, all their calls together. On a GPU they are measured by events, which are read when they have
    passed, at a later call; on other accelerators nothing is measured, since Python's clock doesn't know when they end.

    Attributes:
        computed, skipped: the steps of each kind. A step of which some calls were computed and others skipped counts
            in ``seconds`` only.
        seconds: of all calls.
        between: latest seconds from the end of one step's calls to the beginning of the next one's: the solver's.
    """

    def __init__(self) -> None:
        self.computed, self.skipped = Kind(), Kind()
        self.seconds = 0.0
        self._under_way: deque[tuple[Hashable, Hashable, bool, Any, Any]] = deque()
        self.between: deque[float] = deque(maxlen=KEPT)
        self._latest: tuple[Hashable, Any] | None = None  # whose the call before was, and when it ended
        self._open: dict[Hashable, tuple[Hashable, bool | None, float]] = {}  # by whose step it is

    def start(self, device: torch.device) -> Any:
        """A mark of this moment, to be given to ``stop``."""
        return device, _moment(device)

    def stop(self, mark: Any, whose: Hashable, step: Hashable, skipped: bool, ends: bool = False) -> None:
        """A call is over.

        Args:
            mark: what ``start`` gave when it began.
            whose: request and window; ``step``: which of its steps the call belongs to.
            ends: whether it is the last one of this step.
        """
        device, start = mark
        end = _moment(device)
        if None not in (start, end) and isinstance(start, float) == isinstance(end, float):
            self._under_way.append((whose, step, skipped, start, end))
        while self._under_way and (isinstance(self._under_way[0][-1], float) or self._under_way[0][-1].query()):
            self._settle(*self._under_way.popleft())
        if ends and not self._under_way:
            self.close(whose)

    def _settle(self, whose: Hashable, step: Hashable, skipped: bool, start: Any, end: Any) -> None:
        seconds, latest = _passed(start, end), self._latest
        self.seconds += seconds
        self._latest = whose, end
        before = self._open.get(whose)
        if before is not None and before[0] == step:
            self._open[whose] = step, before[1] if before[1] == skipped else None, before[2] + seconds
            return
        if latest is not None and latest[0] == whose and isinstance(latest[1], float) == isinstance(start, float):
            self.between.append(_passed(latest[1], start))
        self.close(whose)
        self._open[whose] = step, skipped, seconds

    def close(self, whose: Hashable) -> None:
        """No further call belongs to the latest step of ``whose``."""
        _, skipped, seconds = self._open.pop(whose, (None, None, 0.0))
        if skipped is not None:
            (self.skipped if skipped else self.computed).add(seconds)

    def finish(self) -> None:
        """Wait for what is under way; no further call belongs to any step so far."""
        while self._under_way:
            call = self._under_way.popleft()
            if not isinstance(call[-1], float):
                call[-1].synchronize()
            self._settle(*call)
        for whose in list(self._open):
            self.close(whose)

    @property
    def cost(self) -> float | None:
        """What a skipped step costs, in units of a computed one, each with what the solver takes beside it; None until
        two of each were timed."""
        if not (self.computed.latest and self.skipped.latest):
            return None
        beside = median(self.between) if self.between else 0.0
        return (median(self.skipped.latest) + beside) / max(median(self.computed.latest) + beside, 1e-9)

    @property
    def uncached(self) -> float | None:
        """Seconds that all calls would have taken without a cache, by what computed steps take; None where unknown."""
        computed = self.computed.typical
        return None if computed is None else self.seconds - self.skipped.seconds + self.skipped.count * computed


def _passed(start: Any, end: Any) -> float:
    """Seconds between two moments."""
    return end - start if isinstance(end, float) else start.elapsed_time(end) / 1000


def _moment(device: torch.device) -> Any:
    """Now: seconds on a processor, an event on a GPU; None where it can't be told, or work is only being captured."""
    if device.type != "cuda":
        return time.perf_counter() if device.type == "cpu" else None
    if torch.cuda.is_current_stream_capturing():
        return None
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event
