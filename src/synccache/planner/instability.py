"""One uncached run, watched: how much every possible segment changes from step to step, and a probe's errors."""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor

from ..core.method import Method
from ..core.types import Stored
from ..forecasters import Reuse
from ..gates import Never, Probe
from ..handle import Handle
from ..profiles import Plan
from ..scopes import Segments
from ..trace import Record, Trace
from .record import Run


class Instability:
    """Sums ``|r(t) - r(t+1)|_1 / |r(t+1)|_1`` of the residual from node j to node k, over steps, for all j < k.

    ``r(t+1)`` is the residual of the step before. A merged segment's residual is the sum of its parts'; none reaches
    across a change of the stream's shape, or beyond its end. Of two experts the first is watched.
    """

    def __init__(self) -> None:
        self.before: dict[tuple[Hashable, str], dict[int, Tensor]] = {}
        self.now: dict[tuple[Hashable, str], dict[int, Tensor]] = {}
        self.gamma: list[list[float]] = []
        self.ends: list[int] = []

    def watch(self, handle: Handle) -> None:
        """Take in what ``handle`` stores; the engine keeps none of it."""

        def close(record: Record) -> None:
            ends = [region.last for region in handle.regions]
            if self.ends != ends:  # sites were found on the first call
                self.start(ends)
            if record.step == 0:  # another run's residuals are no step before
                self.forget(record.branch)
            if record.expert != 0:
                self.now = {}
            self.close_call()

        self.start([region.last for region in handle.regions])
        handle.on_store, handle.on_step = self.add, close

    def start(self, ends: list[int]) -> None:
        """Begin with segments that end after these blocks."""
        self.ends = ends
        self.gamma = [[0.0] * (len(ends) + 1) for _ in range(len(ends) + 1)]
        self.before, self.now = {}, {}

    def add(self, stored: Stored) -> bool:
        """Take in the residual of one region on one call."""
        self.now.setdefault((stored.branch, stored.stream), {})[stored.region.last] = stored.value.float()
        return False

    def close_call(self) -> None:
        """A call is over: compare its residuals with those of the call before in its branch."""
        for key, new in self.now.items():
            old = self.before.get(key, {})
            if all(end in old and old[end].shape == value.shape for end, value in new.items()):
                self._compare(old, new)
        self.before.update(self.now)
        self.now = {}

    def forget(self, branch: Hashable) -> None:
        """A run begins: nothing came before in this branch."""
        self.before = {key: values for key, values in self.before.items() if key[0] != branch}

    def _compare(self, old: dict[int, Tensor], new: dict[int, Tensor]) -> None:
        for j, first in enumerate(self.ends):
            then, now = torch.zeros(()), torch.zeros(())
            for k, end in enumerate(self.ends[j:], start=j + 1):
                if end not in new or new[end].shape != new[first].shape:
                    break
                then, now = then + old[end], now + new[end]
                size = float(then.abs().sum())
                self.gamma[j][k] += float((now - then).abs().sum()) / size if size else 0.0


def measured(run: Run, mask_weight: float = 2.0) -> Plan:
    """Watch the segments of one run, and a probe that weighs the person's tokens by ``mask_weight``."""
    found = Instability()
    handle = run(Method(Never(Probe(mask_weight)), Segments(), Reuse(), "profile"), found.watch)
    return Plan(
        ends=tuple(found.ends),
        gamma=tuple(tuple(row) for row in found.gamma),
        errors=step_errors(handle.trace),
        mask_weight=mask_weight,
    )


def step_errors(trace: Trace, run: int = -1) -> tuple[float | None, ...]:
    """The error of each step of a run; those of several evaluations (Heun) add up."""
    found: dict[int, float | None] = {}
    for record in trace.steps(run):
        before = found.get(record.step)
        found[record.step] = record.error if before is None else before + (record.error or 0.0)
    return tuple(found.values())
