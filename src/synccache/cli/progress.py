"""Progress bars: one line a run; they move on a terminal only."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from ..animation import Progress
from .console import note as say_note
from .console import terminal

EVERY = 60.0


class TakeBar:
    """Shows how far the takes of an animation are: clip, steps done, computed and skipped, time left."""

    def __init__(self, shown: bool = True) -> None:
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

    def __enter__(self) -> TakeBar:
        self._bars.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def __call__(self, p: Progress) -> None:
        counts = f"clip {p.clip + 1}/{p.clips}  {p.done}/{p.steps} steps  {p.computed} computed  {p.skipped} skipped"
        if self._task is None or p.done == 1:
            label = "uncached" if p.method == "none" else p.method
            self._task = self._bars.add_task(label, total=p.steps, counts="")
        self._bars.update(self._task, completed=p.done, counts=counts)


class CountBar:
    """Counts anything; ``bar(done, total, note)``. Where there is no terminal, a line every ``EVERY`` seconds."""

    def __init__(self, label: str, shown: bool = True) -> None:
        self._label, self._lines = label, shown and not terminal.is_terminal
        self._said = time.monotonic()
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
        if self._lines and time.monotonic() >= self._said + EVERY:
            self._said = time.monotonic()
            say_note(f"{self._label} {done}/{total}  {note}")
