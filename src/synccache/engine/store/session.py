"""All that is kept of one request, or of one window of it. Nothing lives anywhere else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Any

from torch import Tensor

from ...core.types import Decision, Step, Tap, Watch
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
        expert: the one that was called last.
    """

    def __init__(self, request: Hashable, window: Hashable = None) -> None:
        self.request, self.window = request, window
        self.clock = Clock()
        self.broken_off = 0
        self.start_run()

    def start_run(self) -> None:
        self.gates: dict[Hashable, Any] = {}
        self.computed_at: dict[Hashable, int] = {}
        self.total: int | None = None
        self.assumed = False
        self.expert = 0
        self.reasons: Counter[str] = Counter()
        self.skipped = False
        self.free()

    def free(self) -> None:
        """Let go of all tensors; the run can go on, and computes what it has to."""
        self.held: Held = {}
        self.kept: Held = {}
        self.unheeded: dict[tuple[Place, str], Any] = {}
        self.shared: Decision | None = None
        self.ratios: tuple[tuple[float, ...], ...] | None = None
        self.lead: tuple[int, Branch, list[Tensor]] | None = None

    def forget(self) -> None:
        """Drop everything; the next call starts a new run."""
        self.clock.forget()
        self.start_run()

    def lost(self, mark: Mark) -> None:
        """Nobody holds a piece of conditioning any more. One that was there at several steps takes its run with it:
        the pipeline has ended, or was interrupted."""
        if mark.age >= 2:
            self.free()

    @property
    def bytes(self) -> tuple[int, int]:
        """Held in anchors and in the lead; and for the gate."""
        return _bytes(self.held, self.lead[2] if self.lead is not None else ()), _bytes(self.kept)

    def make_room(self, place: Place) -> None:
        """Drop the anchors that the next ones of a region will push out."""
        for history in self.held.get(place, _NOTHING).values():
            history.make_room()

    def anchors_of(self, place: Place) -> dict[str, History]:
        """Non-empty histories of a region, by stream."""
        held = self.held.get(place, _NOTHING)
        for history in held.values():
            if not history.values:
                return {stream: h for stream, h in held.items() if h.values}
        return held

    def ready(self, place: Place, since: int) -> bool:
        """Whether a region has an anchor at least as new as step ``since``."""
        held = self.anchors_of(place)
        return held != {} and all([h.times[0] >= since for h in held.values()])

    def followed(self, expert: int, region: str, since: int) -> bool:
        """Whether any branch has such anchors of the region of that id."""
        return any([self.ready(place, since) for place in self.held if (place[0], place[2]) == (expert, region)])

    def drop(self, branch: Hashable = None, expert: int | None = None) -> None:
        """Forget anchors and what the gate looks back at; only those of a branch or an expert if given."""
        for held in (self.held, self.kept):
            for key in [k for k in held if branch in (None, k[1]) and expert in (None, k[0])]:
                del held[key]

    def drop_older(self, since: int) -> None:
        """Forget what was last computed before step ``since``, as of a branch that is called no more."""
        held = self.held.items()
        self.held = {k: streams for k, streams in held if any([h.times[:1] >= (since,) for h in streams.values()])}

    def look_back(self, place: Place, now: Tensor | None) -> Tap:
        """``now`` beside what is kept, as far as it has the same shape."""
        kept = {name: history.values for name, history in self.kept.get(place, _NOTHING).items()}
        like = now if now is not None else next(iter(kept.get("computed", ())), None)
        if not kept or like is None:
            return Tap(now)
        before, computed = ([v for v in kept[name] if v.shape == like.shape] for name in ("before", "computed"))
        return Tap(now, next(iter(before), None), tuple(computed))

    def look_at(self, place: Place, now: Tensor, watch: Watch, step: Step, computed: bool) -> None:
        """Keep this step's value, in one copy."""
        wanted = [n for n, w in (("before", watch.before), ("computed", computed and watch.computed)) if w]
        copy = now.detach().clone() if wanted else now
        for name in wanted:
            kept = self.kept.setdefault(place, {"before": History(1), "computed": History(watch.computed)})
            kept[name].push(float(step.index), copy)


def _bytes(held: Held, others: Iterable[Tensor] = ()) -> int:
    """Of all tensors, each counted once: the newest one that a gate looks back at may be in both histories."""
    tensors = [t for by_name in list(held.values()) for h in list(by_name.values()) for t in h.values]
    return sum({id(t): t.nbytes for t in (*tensors, *others)}.values())
