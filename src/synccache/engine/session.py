"""All state of one request: its place in the run, gate state, probes and anchors. Nothing lives anywhere else."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from torch import Tensor

from .clock import Clock
from .history import History
from .types import Decision, Region, Step

HistoryKey = tuple[int, Hashable, str, str]  # expert, branch, region, stream


class Session:
    """State of one request.

    Attributes:
        clock: run, step, branch.
        gates: gate state; by branch, or under None where the branches share one.
        probes: (expert, branch or None) to the probe's last value.
        histories: (expert, branch, region id, stream) to anchors.
        shared: the decision of the current step that other branches follow.
        lead: (expert, branch, structure, tensors) of the deciding branch's latest output, if others are told from it.
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
        self.probes: dict[tuple[int, Hashable], Tensor] = {}
        self.histories: dict[HistoryKey, History] = {}
        self.shared: Decision | None = None
        self.lead: tuple[int, Hashable, Any, list[Tensor]] | None = None
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
        return self.histories.setdefault((expert, branch, region.id, stream), History(capacity))

    def anchors_of(self, expert: int, branch: Hashable, region: Region) -> dict[str, History]:
        """Non-empty histories of a region, by stream."""
        found = {k[3]: h for k, h in self.histories.items() if k[:3] == (expert, branch, region.id)}
        return {stream: h for stream, h in found.items() if h.anchors}

    def ready(self, expert: int, branch: Hashable, regions: Iterable[Region], since: int) -> bool:
        """Whether every region has an anchor at least as new as step ``since``."""
        for region in regions:
            held = self.anchors_of(expert, branch, region)
            if not held or min(h.times[0] for h in held.values()) < since:
                return False
        return True

    def note_error(self, step: Step, error: float | None) -> None:
        """Keep the step's error; those of several evaluations add up."""
        if step.evaluation and self.errors and self.errors[-1] is not None:
            self.errors[-1] += error or 0.0
        else:
            self.errors[step.index :] = [error]

    def drop_anchors(self, branch: Hashable = None, expert: int | None = None) -> None:
        """Forget anchors and probes; only those of a branch or an expert if given."""

        def kept(key: tuple) -> bool:
            return (branch is not None and key[1] not in (branch, None)) or (expert is not None and key[0] != expert)

        self.histories = {k: h for k, h in self.histories.items() if kept(k)}
        self.probes = {k: p for k, p in self.probes.items() if kept(k)}

    def keep_only(self, expert: int) -> None:
        """The run has come to this expert: what others stored is of no more use to it."""
        if expert != self.expert:
            self.histories = {k: h for k, h in self.histories.items() if k[0] == expert}
            self.probes = {k: p for k, p in self.probes.items() if k[0] == expert}
            self.expert = expert

    def give_up(self) -> None:
        """This run is computed to its end: nothing of it is of use to a later step, or to a later run."""
        self.drop_anchors()
        self.errors.clear()

    @property
    def bytes(self) -> int:
        return sum(h.bytes for h in list(self.histories.values()))

    @property
    def probe_bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in list(self.probes.values()))
