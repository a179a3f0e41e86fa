"""All state of one request: its place in the run, gate state, probes and anchors. Nothing lives anywhere else."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from torch import Tensor

from .clock import Clock
from .history import History
from .types import Decision, Region, Step, Tap, Watch

Place = tuple[int, Hashable, str]  # expert, branch (None: shared), name of a region or of a watched tensor


class Kept:
    """What is kept of a tensor that a gate watches."""

    def __init__(self) -> None:
        self.before: Tensor | None = None
        self.computed: list[Tensor] = []

    def take(self, now: Tensor, watch: Watch, computed: bool) -> None:
        """Keep this step's value, in one copy."""
        copy = now.detach().clone() if watch.before or (computed and watch.computed) else None
        self.before = copy if watch.before else None
        if copy is not None and computed and watch.computed:
            self.computed = [copy, *self.computed[: watch.computed - 1]]

    def tap(self, now: Tensor | None) -> Tap:
        """``now`` beside what is kept, as far as it has the same shape."""
        shape = now.shape if now is not None else self.computed[0].shape if self.computed else None
        before = self.before if self.before is not None and self.before.shape == shape else None
        return Tap(now, before, tuple(c for c in self.computed if c.shape == shape))

    @property
    def tensors(self) -> list[Tensor]:
        """Each one once."""
        extra = [self.before] if self.before is not None and not any(self.before is c for c in self.computed) else []
        return [*self.computed, *extra]


class Session:
    """State of one request.

    Attributes:
        clock: run, step, branch.
        gates: gate state; by branch, or under None where the branches share one.
        kept: (expert, branch or None, name) to what is kept of a tensor that the gate watches.
        held: (expert, branch, region id) to its anchors by stream.
        unheeded: (expert, branch, "block module") to zeros in the form of what that module gave, where nobody heeds it
            on a skipped step.
        shared: the decision of the current step that other branches follow; ``shared_ratios`` is what it rests on.
        lead: (expert, branch, tensors) of the deciding branch's latest output, if others are told from it.
        computed_at: step index of the last computed step, by branch or None.
        total: number of steps of the run, or None.
        errors: probe errors of the run so far, by step.
        skipped: whether any step of the run was skipped.
        expert: the one that was called last.
    """

    def __init__(self, request: Hashable, rising: bool) -> None:
        self.request = request
        self.clock = Clock(rising)
        self.seen_timestep: tuple[list[Any], list[Any], float] | None = None
        self.start_run(None)

    def start_run(self, total: int | None) -> None:
        self.gates: dict[Hashable, Any] = {}
        self.kept: dict[Place, Kept] = {}
        self.held: dict[Place, dict[str, History]] = {}
        self.unheeded: dict[Place, Any] = {}
        self.shared: Decision | None = None
        self.shared_ratios: tuple[tuple[float, ...], ...] | None = None
        self.lead: tuple[int, Hashable, list[Tensor]] | None = None
        self.computed_at: dict[Hashable, int] = {}
        self.total = total
        self.expert = 0
        self.errors: list[float | None] = []
        self.skipped = False

    def forget(self) -> None:
        """Drop everything; the next call starts a new run."""
        self.clock.forget()
        self.seen_timestep = None
        self.start_run(None)

    def history(self, expert: int, branch: Hashable, region: Region, stream: str, capacity: int) -> History:
        return self.held.setdefault((expert, branch, region.id), {}).setdefault(stream, History(capacity))

    def anchors_of(self, expert: int, branch: Hashable, region: Region) -> dict[str, History]:
        """Non-empty histories of a region, by stream."""
        held = self.held.get((expert, branch, region.id), {})
        return {stream: h for stream, h in held.items() if h.anchors}

    @property
    def histories(self) -> dict[tuple[int, Hashable, str, str], History]:
        """All of them, by expert, branch, region id and stream."""
        return {(*k, stream): h for k, by_stream in list(self.held.items()) for stream, h in list(by_stream.items())}

    def ready(self, expert: int, branch: Hashable, regions: Iterable[Region], since: int) -> bool:
        """Whether every region has an anchor at least as new as step ``since``."""
        for region in regions:
            held = self.anchors_of(expert, branch, region)
            if not held or min(h.times[0] for h in held.values()) < since:
                return False
        return True

    def told(self, expert: int, region: str, since: int) -> bool:
        """Whether any branch has anchors of the region of that id at least as new as step ``since``."""
        held = [h for (e, _, name), h in self.held.items() if e == expert and name == region]
        return any(h.times and h.times[0] >= since for by_stream in held for h in by_stream.values())

    def note_error(self, step: Step, error: float | None) -> None:
        """Keep the step's error; those of several evaluations add up."""
        if step.evaluation and self.errors and self.errors[-1] is not None:
            self.errors[-1] += error or 0.0
        else:
            self.errors[step.index :] = [error]

    def drop_anchors(self, branch: Hashable = None, expert: int | None = None) -> None:
        """Forget anchors and what the gate watches; only that of a branch or an expert if given."""

        def stays(key: Place) -> bool:
            return (branch is not None and key[1] not in (branch, None)) or (expert is not None and key[0] != expert)

        self.held = {k: h for k, h in self.held.items() if stays(k)}
        self.kept = {k: p for k, p in self.kept.items() if stays(k)}

    def keep_only(self, expert: int) -> None:
        """The run has come to this expert: what others stored is of no more use to it."""
        if expert != self.expert:
            self.held = {k: h for k, h in self.held.items() if k[0] == expert}
            self.kept = {k: p for k, p in self.kept.items() if k[0] == expert}
            self.expert = expert

    def give_up(self) -> None:
        """This run is computed to its end: nothing of it is of use to a later step, or to a later run."""
        self.drop_anchors()
        self.errors.clear()

    @property
    def bytes(self) -> int:
        lead = self.lead[2] if self.lead is not None else []
        return sum(h.bytes for h in self.histories.values()) + _bytes(lead)

    @property
    def probe_bytes(self) -> int:
        return sum(_bytes(k.tensors) for k in list(self.kept.values()))


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
