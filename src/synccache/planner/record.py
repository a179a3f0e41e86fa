"""One uncached run, watched: what methods learn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ..engine.anatomy import Anatomy
from ..engine.call import Call
from ..engine.engine import Engine
from ..engine.handle import Handle
from ..engine.history import Anchor
from ..engine.method import Method
from ..engine.trace import Record
from ..engine.types import Action, Decision, Region, Scope, Seen, Step, Watch
from ..errors import InputError, UnsupportedModel
from ..forecasters.reuse import Reuse
from ..gates.scheduled import Scheduled
from .recording import Recording

PLACES = 64  # of the output, for each sampled token: a patch of 2 × 2 × 16 latent values


@dataclass(frozen=True)
class Watching(Scheduled):
    """Never skips; has the output kept, and measures ``|s - s_before|_1 / |s_before|_1`` of the signal s."""

    signal: bool = True
    probe = 0
    skips = False

    @property
    def watches(self) -> Mapping[str, Watch]:
        return {"output": Watch(computed=1), **({"signal": Watch(before=True)} if self.signal else {})}

    def measure(self, seen: Seen) -> Tensor | None:
        """[B, 2] numerator and denominator of a signal [B, ...]."""
        tap = seen.tap("signal")
        if tap.now is None or tap.before is None:
            return None
        now, before = tap.now.detach().float().flatten(1), tap.before.float().flatten(1)
        return torch.stack([(now - before).abs().sum(-1), before.abs().sum(-1)], dim=-1)

    def decide(self, state: None, step: Step, seen: Seen) -> tuple[Decision, None]:
        return Decision(Action.COMPUTE, "recording", seen.error), None


@dataclass(frozen=True)
class Inside:
    """The regions of ``scope`` that have blocks; what the whole model returns is recorded anyway."""

    scope: Scope

    def regions(self, anatomy: Any, start: int, plan: Any = None) -> tuple[Region, ...]:
        return tuple(r for r in self.scope.regions(anatomy, start, plan) if r.members)


class Recorder:
    """Takes in the deciding branch's values of the first run: features as they are stored, outputs after each call."""

    def __init__(self, engine: Engine, samples: int) -> None:
        self.engine, self.samples = engine, samples
        self.features: dict[str, dict[int, Tensor]] = {}
        self.outputs: list[Tensor] = []
        self.changes: list[float | None] = []
        self.person: Tensor | None = None
        self.before: Tensor | None = None
        self.run: tuple[Any, int] | None = None

    def add(self, call: Call, region: Region, stream: str, anchor: Anchor) -> None:
        """One stream of a region was stored; the first one is the one with the video tokens."""
        place, value = call.position, anchor.value
        assert place is not None
        call.session.held.pop((call.expert, place.branch, region.id), None)  # nothing is filled in from it
        taken = self.features.setdefault(region.id, {})
        first = self._first_run(call.session.request, place.run) and place.evaluation == 0
        if first and place.step not in taken:  # the branch that comes first is the one that decides
            taken[place.step] = self._thinned(call, region, value)

    def close(self, record: Record) -> None:
        """A call is over."""
        if not (record.decides and self._first_run(record.request, record.run) and record.evaluation == 0):
            return
        kept = self.engine.session().kept.get((record.expert, None, "output"))
        if kept is None or not kept.computed:
            return
        now, before = kept.computed[0], self.before
        changed = None
        if before is not None and before.shape == now.shape:
            size = float(before.float().abs().sum())
            changed = float((now.float() - before.float()).abs().sum()) / size if size else 0.0
        self.before = now
        self.changes.append(changed)
        self.outputs.append(_spread(now.reshape(-1), self.samples * PLACES).float().cpu())

    def _thinned(self, call: Call, region: Region, value: Tensor) -> Tensor:
        """[n, D] of a value [B, S, D], whose video tokens are counted through all samples."""
        mask = None
        if value.ndim == 3:
            video, mask = self.engine.video_tokens(call, value, region.first)
            value, mask = (video, mask) if video.shape[1] else (value, None)
        if self.person is None and mask is not None:
            everywhere = mask.expand(value.shape[0], -1).reshape(-1)
            self.person = _spread(everywhere, self.samples).float().cpu()
        return _spread(value.reshape(-1, value.shape[-1]), self.samples).float().cpu()

    def _first_run(self, request: Any, run: int) -> bool:
        self.run = self.run or (request, run)
        return self.run == (request, run)


def record(
    target: Any,
    call: Callable[[], Any],
    *,
    scope: Scope,
    samples: int = 1024,
    anatomy: Anatomy | None = None,
    mask: Any = None,
    **settings: Any,
) -> Recording:
    """Record one run of a model, without skipping anything.

    Features take ``T n D`` numbers of four bytes a region. A model whose injection sites were not known beforehand is
    run a second time, when they are: its first step was stored in other regions.

    Args:
        target: as for ``apply``; a cache of ours that is attached is replaced, and nothing is left attached.
        call: runs the pipeline once; of several runs (clips) the first is recorded.
        scope: what to record: each region's stored value.
        samples: at most so many video tokens of a region, and 64 times as many places of the output.
        anatomy, mask: as for ``apply``.
        settings: a method's; only those of the engine are used (``steps``, ``group``).

    Raises:
        InputError: ``call`` made no step of the model, or only one; or no region was there on all steps.
    """
    given = {"anatomy": anatomy, "mask": mask} | {k: settings[k] for k in ("steps", "group") if k in settings}
    recorder, handle = _watched(target, call, scope, samples, given)
    steps = [r for r in handle.trace.steps(0) if r.evaluation == 0]
    if any(len(f) < len(steps) for f in recorder.features.values()):
        recorder, handle = _watched(target, call, scope, samples, {**given, "anatomy": handle.anatomy})
        steps = [r for r in handle.trace.steps(0) if r.evaluation == 0]
    whole = {i: list(f.values()) for i, f in recorder.features.items() if len(f) == len(steps)}
    whole = {i: f for i, f in whole.items() if len({v.shape for v in f}) == 1}
    if recorder.features and not whole:
        raise InputError(
            f"No part of the model was computed with one shape on all {len(steps)} steps of the recorded call, so "
            "there is nothing to learn from it."
        )
    signals = tuple(r.error for r in steps)
    return Recording(
        features=MappingProxyType({i: torch.stack(f) for i, f in whole.items()}),
        outputs=torch.stack(recorder.outputs),
        signals=signals if any(s is not None for s in signals) else (),
        changes=tuple(recorder.changes),
        timesteps=tuple(r.timestep for r in steps),
        person=recorder.person,
    )


def _watched(
    target: Any, call: Callable[[], Any], scope: Scope, samples: int, given: Mapping[str, Any]
) -> tuple[Recorder, Handle]:
    """Run once with what the first block is called with in view; without it where the model has no such thing."""
    try:
        return _recorded(target, call, Method(Watching(), Inside(scope), Reuse(), "recording"), samples, given)
    except UnsupportedModel:
        return _recorded(target, call, Method(Watching(False), Inside(scope), Reuse(), "recording"), samples, given)


def _recorded(
    target: Any, call: Callable[[], Any], method: Method, samples: int, given: Mapping[str, Any]
) -> tuple[Recorder, Handle]:
    recorders: list[Recorder] = []

    def watch(handle: Handle) -> None:
        recorders.append(Recorder(handle.engine, samples))
        handle.engine.on_anchor, handle.on_step = recorders[0].add, recorders[0].close

    handle = uncached(target, call, method, watch, storage_dtype=torch.float32, **given)
    return recorders[0], handle


def uncached(
    target: Any, call: Callable[[], Any], method: Method, watch: Callable[[Handle], None], **given: Any
) -> Handle:
    """Run ``call`` once with ``method``, which skips nothing, attached and ``watch``ed; the handle, taken off again.

    Raises:
        InputError: ``call`` made no step of the model, or only one.
    """
    from ..api import apply  # which reads profiles, and so imports this package

    handle = apply(target, method, **given)
    watch(handle)
    try:
        with torch.no_grad():
            call()
    finally:
        handle.remove()
    made = len(handle.trace.steps(0)) if handle.trace.records else 0
    if made < 2:
        raise InputError(f"The profiled call made {made} steps of the model; at least 2 are needed.")
    return handle


def _spread(values: Tensor, most: int) -> Tensor:
    """At most ``most`` of the first dimension's entries, evenly spread, the first and the last among them."""
    count = values.shape[0]
    if count <= most:
        return values
    return values[torch.linspace(0, count - 1, most, dtype=torch.float64).round().long().to(values.device)]
