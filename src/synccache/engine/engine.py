"""The engine: asks a gate, fills in or records regions, keeps the trace. It knows no method and no model by name."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from . import blocks, guidance, outputs
from .anatomy import Anatomy
from .begin import begin
from .call import Call
from .decide import decide, keep_output, moment
from .fit import check_fit
from .history import Anchor
from .mask import TokenMask
from .method import Method
from .notices import Notices
from .schedule import run_length, schedule_of
from .session import Session
from .structure import Structure
from .trace import Record, Trace
from .types import Action, Region

_REQUEST: ContextVar[Hashable] = ContextVar("synccache_request", default=None)


class Engine:
    """Runs one method on one model, or on the two experts of one pipeline.

    Args:
        method: gate, scope and forecaster.
        anatomies: one per expert.
        models: the transformers, one per expert.
        pipeline: what they belong to; only its ``scheduler`` is read.
        plan: given to the scope.
        steps: the length of a run, where no scheduler tells.
        shared: one decision for all guidance branches, or one each.
        storage_dtype, storage_device: of anchors; None: as the stream.
        group: process group over which decisions agree.
    """

    def __init__(
        self,
        method: Method,
        models: Sequence[nn.Module],
        anatomies: Sequence[Anatomy],
        *,
        pipeline: Any = None,
        plan: Any = None,
        steps: int | None = None,
        shared: bool = True,
        storage_dtype: torch.dtype | None = None,
        storage_device: torch.device | str | None = None,
        group: Any = None,
    ) -> None:
        self.method, self.models, self.pipeline, self.plan = method, list(models), pipeline, plan
        self.steps, self.shared, self.group = steps, shared, group
        self.storage_dtype, self.storage_device = storage_dtype, storage_device
        self.structures = [Structure(a) for a in anatomies]
        self.regions = [self.cut(s) for s in self.structures]
        check_fit(self)
        self.trace, self.notices = Trace(), Notices()
        self.sessions: dict[Hashable, Session] = {}
        self.forms: dict[tuple[int, str], outputs.Form] = {}
        self.recorded: dict[int | None, tuple[float | None, ...]] = {}
        self.mask = TokenMask(None)
        self.paused = 0
        self.on_step: Callable[[Record], None] | None = None
        self.on_anchor: Callable[[Call, Region, str, Anchor], None] | None = None
        self._local = threading.local()

    # -- what the hooks reach ------------------------------------------------------------------------------------

    @property
    def call(self) -> Call | None:
        return getattr(self._local, "call", None)

    def run_model(self, expert: int, run: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        """A call of a whole transformer."""
        if self.paused or self.call is not None:
            return run(*args, **kwargs)
        call = begin(self, expert, args, kwargs)
        if call is None:
            return run(*args, **kwargs)
        self._local.call = call
        try:
            output = guidance.fill(self, call)
            if output is None and moment(self) == "before":
                decide(self, call)
                output = guidance.fill(self, call)
                output = outputs.fill_model(self, call) if output is None else output
            if output is None:
                output = run(*args, **kwargs)
                self._finish_blocks(call)
                keep_output(self, call, output)
                outputs.keep_model(self, call, output)
            guidance.keep(self, call, output)
            self._finish(call)
        except BaseException:
            call.session.forget()  # a run that broke off leaves nothing behind
            raise
        finally:
            self._local.call = None
        return output

    def run_block(self, expert: int, index: int, run: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        """A call of one block."""
        call = self.call
        if self.paused or call is None or call.expert != expert:
            return run(*args, **kwargs)
        return blocks.run_block(self, call, index, run, args, kwargs)

    def run_part(
        self, expert: int, index: int, part: str, run: Callable[..., Any], args: tuple, kwargs: dict[str, Any]
    ) -> Any:
        """A call of a module inside a block."""
        call = self.call
        if self.paused or call is None or call.expert != expert:
            return run(*args, **kwargs)
        return outputs.run_part(self, call, index, part, run, args, kwargs)

    @property
    def branch_name(self) -> Hashable:
        """As given by diffusers' ``cache_context``, or None."""
        return getattr(self._local, "branch", None)

    @contextmanager
    def named_branch(self, name: Hashable) -> Any:
        before = self.branch_name
        self._local.branch = name
        try:
            yield
        finally:
            self._local.branch = before

    def requesting(self, request: Hashable) -> AbstractContextManager[None]:
        @contextmanager
        def scope() -> Any:
            token = _REQUEST.set(request)
            try:
                yield
            finally:
                _REQUEST.reset(token)

        return scope()

    # -- one call ------------------------------------------------------------------------------------------------

    def session(self) -> Session:
        request = _REQUEST.get()
        if request not in self.sessions:
            self.sessions[request] = Session(request, self.structures[0].anatomy.rising)
        return self.sessions[request]

    def video_tokens(self, call: Call, stream: Tensor, index: int) -> tuple[Tensor, Tensor | None]:
        """The video tokens [B, V, D] of block ``index``'s main stream [B, S, D], and their mask weights [1 or B, V]."""
        anatomy = self.structures[call.expert].anatomy
        grid = anatomy.grid(call.bound) if anatomy.grid is not None else None
        if grid is not None and stream.ndim == 3:
            first = anatomy.first_token(index, call.bound)
            stream = stream[:, first : first + grid[0] * grid[1] * grid[2]]
        return stream, self.mask.on(stream, grid, self.notices)

    @property
    def schedule(self) -> Any:
        """Another object whenever the pipeline's scheduler was set anew."""
        return schedule_of(self.pipeline)

    def run_length(self, timestep: float) -> int | None:
        """Number of steps of the run that begins at ``timestep``, if anybody tells."""
        total = self.steps if self.steps is not None else run_length(self.schedule, timestep)
        if total is not None and total <= 8 and self.method.gate.skips:
            text = (
                f"This run has {total} step{'s' * (total > 1)}. With 8 or fewer, leaving some out rarely pays: compare."
            )
            self.notices.say("few steps", text)
        return total

    def _finish_blocks(self, call: Call) -> None:
        if call.decision is None:  # fewer blocks ran than the gate wants to see
            decide(self, call)
        blocks.close_captures(self, call)

    def _finish(self, call: Call) -> None:
        assert call.decision is not None and call.position is not None and call.timestep is not None
        structure, session, place = self.structures[call.expert], call.session, call.position
        if not call.begun and not structure.settled:
            void, regions = structure.settle(), self.cut(structure)
            if void or regions != self.regions[call.expert]:
                self.regions[call.expert] = regions
                session.drop_anchors(expert=call.expert)
                session.gates.clear()  # a gate may have planned for the regions that there were
        if call.called and len(structure.anatomy.fixed) == len(structure.anatomy.blocks):
            self.notices.say("fixed", "No block of this model can be left out: none returns the shape it was given.")
        decision, filled = call.decision, bool(call.begun) or self._only_guided(call)
        record = Record(
            run=place.run, step=place.step, evaluation=place.evaluation, branch=place.branch, decides=call.decides,
            expert=call.expert, request=session.request, timestep=call.timestep,
            decision=(Action.FILL if filled else Action.COMPUTE).value, reason=decision.reason,
            error=decision.error, total=decision.total, seconds=time.perf_counter() - call.started,
            bytes=sum(s.bytes for s in list(self.sessions.values())),
            probe_bytes=sum(s.probe_bytes for s in list(self.sessions.values())),
        )  # fmt: skip
        self.trace.records.append(record)
        if self.on_step is not None:
            self.on_step(record)

    def _only_guided(self, call: Call) -> bool:
        """Whether this is a step whose other branches are filled in and nothing else."""
        assert call.decision is not None
        return call.decides and call.decision.fills and not self.regions[call.expert]

    # -- regions, anchors, resets --------------------------------------------------------------------------------

    def cut(self, structure: Structure) -> tuple[Region, ...]:
        return self.method.scope.regions(structure.anatomy, self.method.gate.probe, self.plan)

    def stored(self, value: Tensor, dtype: torch.dtype) -> Tensor:
        """``value`` where and as anchors are kept; ``dtype`` is the model's own."""
        return value.to(device=self.storage_device or value.device, dtype=self.storage_dtype or dtype)

    def usable(self, expert: int) -> list[Region]:
        """Regions that can be filled in: all but those with blocks that weren't seen computed or can't be left out, and
        modules that weren't called."""
        structure, regions = self.structures[expert], self.regions[expert]
        return [r for r in regions if ((expert, r.id) in self.forms if r.part else structure.can_skip(r.members))]

    def remember_errors(self, session: Session) -> None:
        if session.errors and not session.skipped and any(e is not None for e in session.errors):
            known = self.recorded.get(session.total, ())
            if session.total in (None, len(session.errors)) and len(session.errors) > len(known):
                self.recorded[session.total] = tuple(session.errors)

    def reset(self) -> None:
        """Forget all runs; recorded errors of complete runs and what was learnt about the model stay."""
        for session in self.sessions.values():
            self.remember_errors(session)
            session.forget()

    @property
    def bytes(self) -> int:
        return sum(s.bytes for s in list(self.sessions.values()))
