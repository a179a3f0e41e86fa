"""Progress bars: one line a run; they move on a terminal only."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from .console import lasting, terminal
from .console import note as say_note

if TYPE_CHECKING:
    from ..animation import Progress

EVERY = 30.0


class Lines:
    """How far work is where there is no terminal, as in a log file: a line every ``EVERY`` seconds."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown and not terminal.is_terminal
        self._said = time.monotonic()
        self._begun = (self._said, 0)
        self._done: int | None = None

    def __call__(self, label: str, done: int, total: int, text: str) -> None:
        """Say ``text``, if it is time to, with the time left by the pace since this work's first call."""
        now = time.monotonic()
        if self._done is None or done < self._done:
            self._begun = now, done
        self._done = done
        if not self._shown or now < self._said + EVERY:
            return
        self._said = now
        since, first = self._begun
        left = f"  about {lasting((now - since) / (done - first) * (total - done))} left" if done > first else ""
        say_note(f"{label}  {text}{left}")


class TakeBar:
    """Shows how far the takes of an animation are: clip, steps done, computed and skipped, time left."""

    def __init__(self, shown: bool = True) -> None:
        self._lines = Lines(shown)
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=14),
            TextColumn("{task.fields[counts]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=terminal,
            disable=not (shown and terminal.is_terminal),
        )
        self._task: TaskID | None = None
        self._label = ""

    def __enter__(self) -> TakeBar:
        self._bars.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def __call__(self, p: Progress) -> None:
        counts = f"clip {p.clip + 1}/{p.clips}  {p.done}/{p.steps} steps  {p.computed} computed  {p.skipped} skipped"
        label = "uncached" if p.method == "none" else p.method
        self._lines(label, p.done, p.steps, counts)
        if self._task is None or label != self._label:
            self._label = label
            self._task = self._bars.add_task(label, total=p.steps, counts="")
        self._bars.update(self._task, completed=p.done, counts=counts)


class CountBar:
    """Counts anything; ``bar(done, total, note)``. Where there is no terminal, a line every ``EVERY`` seconds."""

    def __init__(self, label: str, shown: bool = True) -> None:
        self._label, self._lines = label, Lines(shown)
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[note]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=terminal,
            disable=not (shown and terminal.is_terminal),
        )
        self._task = self._bars.add_task(label, total=1, note="", start=False)

    def __enter__(self) -> CountBar:
        self._bars.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def __call__(self, done: int, total: int, note: str = "") -> None:
        if not self._bars.tasks[0].started:
            self._bars.start_task(self._task)
        self._bars.update(self._task, completed=done, total=total, note=note)
        self._lines(f"{self._label} {done}/{total}", done, total, note)
