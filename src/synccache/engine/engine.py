"""The engine's state: a method on the experts of one pipeline, and what is kept of their runs.

What happens in a call stands in ``act``; functions there take the call, which knows its engine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..core.anatomy import Anatomy
from ..core.fit import check_fit
from ..core.form import Form
from ..core.mask import TokenMask
from ..core.method import Method
from ..core.notices import Notices
from ..core.pace import Pace
from ..core.structure import Structure
from ..core.types import Region, Stored, innermost
from ..errors import InputError, UnsupportedModel
from ..trace.timing import Timing
from .place.schedule import Schedule, schedule_of, timesteps_of
from .place.told import Told
from .store.session import Session


class Expert:
    """One transformer of a pipeline.

    Attributes:
        structure: what is known of its blocks.
        regions: what skipped steps fill in, ``blocks`` by block index, ``parts`` by (block index, module name);
            ``whole``: the whole model as a region, ``guidance``: what other branches add to the leading one.
        rows: indices of the blocks that may compute some of their tokens without the others.
        forms: of the outputs that were stored, by region id.
        refused: ids of regions that can't be filled in after all.
        confused: whether its blocks ran in an order that isn't understood.
    """

    def __init__(self, index: int, model: nn.Module, anatomy: Anatomy, method: Method, plan: Any) -> None:
        self.index, self.model, self.method, self.plan = index, model, method, plan
        self.refused: set[str] = set()
        self.forms: dict[str, Form] = {}
        self.know(anatomy)

    def know(self, anatomy: Anatomy) -> None:
        """The model is made of this."""
        self.structure = Structure(anatomy)
        self.confused = False
        self.regions: tuple[Region, ...] | None = None
        self.cut()

    def cut(self) -> bool:
        """Cut the transformer into regions, by what is known of it now; whether they are others than before."""
        anatomy = self.structure.anatomy
        try:
            found = self.method.regions(anatomy, self.plan)
        except (InputError, UnsupportedModel):
            if anatomy.blocks:
                raise
            found = ()  # none of its blocks could be told
        if found == self.regions:
            return False
        check_fit(self.method, found)
        self.regions = found
        inside = [r for r in found if r.members]
        self.blocks = {i: r for r in inside if not r.part for i in r.members}
        self.parts = {(r.first, name): r for r in inside for name in r.modules}
        self.rows = tuple(sorted(i for i, r in self.blocks.items() if r.rows))
        self.whole = next((r for r in found if not r.members and r.value != "guidance"), None)
        self.guidance = next((r for r in found if r.value == "guidance"), None)
        self.filled = tuple(r for r in found if r is not self.guidance)
        return True

    def can_fill(self, region: Region) -> bool:
        """Whether its blocks were all seen computed and can be left out, or its module was called."""
        known = region.id in self.forms if region.part else self.structure.can_skip(region.members)
        return known and region.id not in self.refused


class Engine:
    """Runs one method on one model, or on the two experts of one pipeline.

    Args:
        models, anatomies: the transformers, one per expert, and what they are made of.
        pipeline: what they belong to; only its ``scheduler`` is read.
        pace: the wanted speed-up; what a skipped step costs is timed for it.
        shared: one decision for all guidance branches, or one each.
        storage_dtype, storage_device: of anchors; None: as the stream.
        group: process group over which decisions agree.

    Attributes:
        now: has the ``call`` in progress on this thread.
        reads: how often numbers were brought to the host.
        ran: number of steps of the last run whose length nobody told.
        timing: seconds in the transformer.
    """

    def __init__(
        self,
        method: Method,
        models: Sequence[nn.Module],
        anatomies: Sequence[Anatomy],
        *,
        pipeline: Any = None,
        plan: Any = None,
        pace: Pace | None = None,
        steps: int | None = None,
        shared: bool = True,
        storage_dtype: torch.dtype | None = None,
        storage_device: torch.device | str | None = None,
        group: Any = None,
    ) -> None:
        self.method, self.pipeline = method, pipeline
        self.rule, self.measure = innermost(method.gate), innermost(method.gate).measure
        self.steps, self.shared, self.group = steps, shared, group
        self.storage_dtype, self.storage_device = storage_dtype, storage_device
        check_fit(method, (), shared)
        pairs = zip(models, anatomies, strict=True)
        self.experts = [Expert(i, model, anatomy, method, plan) for i, (model, anatomy) in enumerate(pairs)]
        self.notices = Notices()
        self.sessions: dict[tuple[Hashable, Hashable], Session] = {}
        self.mask = TokenMask(None)
        self.paused = 0
        self.pace, self.timing = pace, Timing()
        self.reads = 0
        self.ran: int | None = None
        self.on_record: Callable[..., None] | None = None
        self.on_store: Callable[[Stored], bool] | None = None
        self._schedule: tuple[Any, Schedule | None] = (None, None)
        self.now = threading.local()

    @property
    def schedule(self) -> Schedule | None:
        """That of the pipeline's scheduler at present: another object when it was set anew."""
        timesteps = timesteps_of(self.pipeline)
        if timesteps is not self._schedule[0]:
            self._schedule = timesteps, schedule_of(self.pipeline, timesteps)
        return self._schedule[1]

    def session(self, told: Told) -> Session:
        """State of the request, or of the window of it, that a call belongs to."""
        key = (told.request, told.window)
        if key not in self.sessions:
            self.sessions[key] = Session(*key)
            if told.window is not None:  # it joins the run that its request's other windows are in
                others = [s.clock.run for key, s in list(self.sessions.items()) if key[0] == told.request]
                self.sessions[key].clock.run = max(*others, 0) - 1
        return self.sessions[key]

    def know(self, expert: Expert, found: Anatomy, guessed: bool) -> None:
        """One computed call has shown what an expert is made of; where its blocks had been ``guessed`` right, what else
        the call has taught stays."""
        if guessed:
            now = expert.structure.anatomy
            breaks = tuple(sorted({*now.breaks, *found.breaks}))
            expert.structure.anatomy = replace(
                now, breaks=breaks, uncovered=found.uncovered, candidates=(), glance=None, observe=None
            )
        else:
            expert.know(found)
        self.recut(expert, void=not guessed)

    def recut(self, expert: Expert, void: bool = False) -> None:
        """More is known of an expert's blocks; ``void``: so much that nothing that was stored holds."""
        if expert.cut() or void:
            for session in list(self.sessions.values()):
                session.drop(expert=expert.index)
                session.gates.clear()  # a gate may have planned for the regions that there were

    def drop_windows(self, session: Session) -> None:
        """A window has begun a new run: let go of those of its request that are still in an earlier one."""
        for key, other in list(self.sessions.items()):
            if session.window is not None and key[0] == session.request and other.clock.run < session.clock.run:
                self.sessions.pop(key, None)

    def forget(self, request: Hashable) -> None:
        """Free what is kept of a request and its windows."""
        for key in [k for k in list(self.sessions) if k[0] == request]:
            self.sessions.pop(key, None)

    def reset(self, *requests: Hashable) -> None:
        """Forget the runs of these requests and their windows, else all; what was learnt about the model stays."""
        for (request, _), session in list(self.sessions.items()):
            if not requests or request in requests:
                session.forget()

    @property
    def bytes(self) -> tuple[int, int]:
        """Held over all requests in anchors and leads; and for the gate."""
        anchors, kept = zip(*[(0, 0), *[s.bytes for s in list(self.sessions.values())]], strict=True)
        return sum(anchors), sum(kept)
