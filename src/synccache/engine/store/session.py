"""All that is kept of one request, or of one window of it. Nothing lives anywhere else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from torch import Tensor

from ...core.types import Decision, Region, Step, Tap, Watch
from ..place.branch import Branch
from ..place.clock import Clock
from ..place.conditioning import Mark
from .anchors import History

Place = tuple[int, Hashable, str]  # expert, branch (None: shared), name of a region or of a watched tensor
Held = dict[Place, dict[str, History]]
_NOTHING: dict[str, History] = {}


class Session:
    """State of one request, or of one window of it.

    Attributes:
        clock: run, step, branch.
        gates: gate state; by branch, or under None where the branches share one.
        held: anchors by stream, of each (expert, branch, region id).
        kept: what a gate looks back at, ``"before"`` and ``"computed"``, of each (expert, branch or None, name).
        unheeded: zeros in the form of what a module gave, where nobody heeds it on a skipped step.
        shared: the decision of the current step that other branches follow; ``ratios``: what it rests on.
        lead: (expert, branch, tensors) of the deciding branch's latest output, if others are told from it.
        computed_at: step index of the last computed step, by branch or None.
        total: number of steps of the run, or None; ``assumed``: as many as the run before, which nobody has told.
        reasons: why steps of the run were computed; ``skipped``: whether any was not; ``broken_off``: how many runs
            have now ended after a few computed steps, one after the other.
        bytes: held in anchors and in the lead; ``kept_bytes``: for the gate.
        expert: the one that was called last.
    """

    def __init__(self, request: Hashable, window: Hashable = None) -> None:
        self.request, self.window = request, window
        self.clock = Clock()
        self.broken_off = 0
        self.start_run(None)

    def start_run(self, total: int | None) -> None:
        self.gates: dict[Hashable, Any] = {}
        self.computed_at: dict[Hashable, int] = {}
        self.total, self.assumed = total, False
        self.expert = 0
        self.reasons: Counter[str] = Counter()
        self.skipped = False
        self.free()

    def free(self) -> None:
        """Let go of all tensors; the run can go on, and computes what it has to."""
        self.held: Held = {}
        self.kept: Held = {}
        self.unheeded: dict[Place, Any] = {}
        self.shared: Decision | None = None
        self.ratios: tuple[tuple[float, ...], ...] | None = None
        self.lead: tuple[int, Branch, Mapping[int, Tensor]] | None = None
        self.bytes = self.kept_bytes = 0

    def forget(self) -> None:
        """Drop everything; the next call starts a new run."""
        self.clock.forget()
        self.start_run(None)

    def lost(self, mark: Mark) -> None:
        """Nobody holds a piece of conditioning any more. One that was there at several steps takes its run with it:
        the pipeline has ended, or was interrupted."""
        if mark.age >= 2:
            self.free()

    # -- anchors -------------------------------------------------------------------------------------------------

    def push(self, place: Place, stream: str, capacity: int, time: float, value: Tensor) -> History:
        """Keep ``value``, which nobody else writes to, as the newest anchor."""
        history = self.held.setdefault(place, {}).setdefault(stream, History(capacity))
        before = history.bytes
        history.push(time, value)
        self.bytes += history.bytes - before
        return history

    def make_room(self, place: Place) -> None:
        """Drop the anchors that the next ones of a region will push out."""
        for history in self.held.get(place, {}).values():
            before = history.bytes
            history.make_room()
            self.bytes += history.bytes - before

    def anchors_of(self, place: Place) -> dict[str, History]:
        """Non-empty histories of a region, by stream."""
        held = self.held.get(place, _NOTHING)
        for history in held.values():
            if not history.anchors:
                return {stream: h for stream, h in held.items() if h.anchors}
        return held

    def ready(self, expert: int, branch: Hashable, regions: Iterable[Region], since: int) -> bool:
        """Whether every region has an anchor at least as new as step ``since``."""
        for region in regions:
            held = self.anchors_of((expert, branch, region.id))
            if not held or min([h.times[0] for h in held.values()]) < since:
                return False
        return True

    def told(self, expert: int, region: str, since: int) -> bool:
        """Whether any branch has anchors of the region of that id at least as new as step ``since``."""
        held = [h for (e, _, name), h in self.held.items() if e == expert and name == region]
        return any(h.times and h.times[0] >= since for by_stream in held for h in by_stream.values())

    def lead_with(self, expert: int, branch: Branch, tensors: Mapping[int, Tensor]) -> None:
        """Keep the deciding branch's output for those that are told from it."""
        self.bytes -= _bytes(self.lead[2].values()) if self.lead is not None else 0
        self.lead = (expert, branch, tensors)
        self.bytes += _bytes(tensors.values())

    def drop(self, branch: Hashable = None, expert: int | None = None) -> None:
        """Forget anchors and what the gate looks back at; only those of a branch or an expert if given."""
        self._keep(lambda key: (branch is not None and key[1] != branch)
                   or (expert is not None and key[0] != expert))  # fmt: skip

    def drop_older(self, since: int) -> None:
        """Forget what was last computed before step ``since``, as of a branch that is called no more."""
        old = {key for key, held in self.held.items() if all(h.times[:1] < (since,) for h in held.values())}
        if old:
            self._keep(lambda key: key not in old)

    def keep_only(self, expert: int) -> None:
        """The run has come to this expert: what others stored is of no more use to it."""
        if expert != self.expert:
            self._keep(lambda key: key[0] == expert)
            self.expert = expert

    def _keep(self, stays: Any) -> None:
        self.held = {k: h for k, h in self.held.items() if stays(k)}
        self.kept = {k: h for k, h in self.kept.items() if stays(k)}
        lead = _bytes(self.lead[2].values()) if self.lead is not None else 0
        self.bytes = lead + sum(h.bytes for by_stream in self.held.values() for h in by_stream.values())
        self.kept_bytes = sum(_kept_bytes(by_name) for by_name in self.kept.values())

    # -- what a gate looks back at -------------------------------------------------------------------------------

    def look_back(self, place: Place, now: Tensor | None) -> Tap:
        """``now`` beside what is kept, as far as it has the same shape."""
        kept = self.kept.get(place)
        if not kept:
            return Tap(now)
        before, computed = kept["before"], kept["computed"]
        shape = now.shape if now is not None else computed.anchors[0].value.shape if computed.anchors else None
        if shape is None:
            return Tap(now)
        return Tap(now, next(iter(before.newest(shape)), None), computed.newest(shape))

    def look_at(self, place: Place, now: Tensor, watch: Watch, step: Step, computed: bool) -> None:
        """Keep this step's value, in one copy."""
        if not watch.before and not (computed and watch.computed):
            return
        kept = self.kept.setdefault(place, {"before": History(1), "computed": History(watch.computed)})
        bytes_before, copy = _kept_bytes(kept), now.detach().clone()
        if watch.before:
            kept["before"].push(float(step.index), copy)
        if computed and watch.computed:
            kept["computed"].push(float(step.index), copy)
        self.kept_bytes += _kept_bytes(kept) - bytes_before


def _kept_bytes(kept: dict[str, History]) -> int:
    """Each tensor once: the newest one may be in both histories."""
    own = {id(a.value): a.bytes for h in kept.values() for a in h.anchors}
    return sum(own.values())


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
