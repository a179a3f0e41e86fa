"""One never-skipping run, watched: probe errors per step, and the instability of every possible segment."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from ..engine.anatomy import Anatomy
from ..engine.call import Call
from ..engine.handle import Handle
from ..engine.history import Anchor
from ..engine.method import Method
from ..engine.types import Region
from ..forecasters import Reuse
from ..gates import Never, Probe
from ..scopes import Segments
from .plan import Plan
from .record import uncached


class Instability:
    """Sums ``|r(t) - r(t+1)|_1 / |r(t+1)|_1`` of the residual from node j to node k, over steps, for all j < k.

    ``r(t+1)`` is the residual of the step before. A merged segment's residual is the sum of its parts'; none reaches
    across a change of the stream's shape, or beyond its end.
    """

    def __init__(self) -> None:
        self.before: dict[tuple[Hashable, str], dict[int, Tensor]] = {}
        self.now: dict[tuple[Hashable, str], dict[int, Tensor]] = {}
        self.gamma: list[list[float]] = []
        self.ends: list[int] = []

    def add(self, call: Call, region: Region, stream: str, anchor: Anchor) -> None:
        """Take in the residual of one region on one call."""
        assert call.position is not None
        if call.expert == 0:
            self.now.setdefault((call.position.branch, stream), {})[region.last] = anchor.value.float()

    def close_call(self) -> None:
        """A call is over: compare its residuals with those of the call before in its branch."""
        for key, new in self.now.items():
            old = self.before.get(key, {})
            if all(end in old and old[end].shape == value.shape for end, value in new.items()):
                self._compare(old, new)
        self.before.update(self.now)
        self.now = {}

    def _compare(self, old: dict[int, Tensor], new: dict[int, Tensor]) -> None:
        for j, first in enumerate(self.ends):
            then, now = torch.zeros(()), torch.zeros(())
            for k, end in enumerate(self.ends[j:], start=j + 1):
                if end not in new or new[end].shape != new[first].shape:
                    break
                then, now = then + old[end], now + new[end]
                size = float(then.abs().sum())
                self.gamma[j][k] += float((now - then).abs().sum()) / size if size else 0.0

    def forget(self, branch: Hashable) -> None:
        """A run begins: nothing came before in this branch."""
        self.before = {key: prefix for key, prefix in self.before.items() if key[0] != branch}

    def start(self, ends: list[int]) -> None:
        self.ends = ends
        self.gamma = [[0.0] * (len(ends) + 1) for _ in range(len(ends) + 1)]
        self.before, self.now = {}, {}


def segments_of(
    target: Any,
    call: Callable[[], Any],
    *,
    mask: Any = None,
    mask_weight: float = 2.0,
    anatomy: Anatomy | None = None,
    **settings: Any,
) -> Plan:
    """Watch the segments of one run of a model, without skipping anything.

    Args:
        target: as for ``apply``; a cache of ours that is attached is replaced, and nothing is left attached.
        call: runs the pipeline once.
        mask, mask_weight: as for ``synccache``, for the probe's errors.
        settings: engine settings, such as ``storage_dtype``.

    Raises:
        InputError: ``call`` made no step of the model.
    """
    method, watch = Method(Never(Probe(mask_weight)), Segments(), Reuse(), "profile"), Instability()

    def attach(handle: Handle) -> None:
        engine = handle.engine
        engine.on_anchor = watch.add

        def close(record: Any) -> None:
            ends = [region.last for region in engine.regions[0]]
            if watch.ends != ends:  # sites were found on the first call
                watch.start(ends)
            if record.step == 0:  # another run's residuals are no step before
                watch.forget(record.branch)
            watch.close_call()

        handle.on_step = close
        watch.start([region.last for region in engine.regions[0]])

    handle = uncached(target, call, method, attach, anatomy=anatomy, mask=mask, **settings)
    return Plan(
        ends=tuple(watch.ends),
        gamma=tuple(tuple(row) for row in watch.gamma),
        errors=tuple(r.error for r in handle.trace.steps()),
        mask_weight=mask_weight,
    )
