"""Samples of what one uncached run stores and returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ..core.method import Method
from ..core.types import Gate, Region, Scope, Stored
from ..errors import InputError, UnsupportedModel
from ..forecasters import Reuse
from ..gates import Never, Signal
from ..handle import Handle
from ..methods.recording import Recording
from .uncached import Watch

PLACES = 64  # of the output, for each sampled token: a patch of 2 × 2 × 16 latent values
Run = Callable[[Method, Watch], Handle]


@dataclass(frozen=True)
class AndOutput:
    """The regions of ``scope`` that lie inside the model, and the whole model's output."""

    scope: Scope

    def regions(self, anatomy: Any, start: int, plan: Any = None) -> tuple[Region, ...]:
        inside = (r for r in self.scope.regions(anatomy, start, plan) if r.members)
        return (*inside, Region("model", (), "output"))


class Samples:
    """Takes samples of the deciding branch's values in the first run, as they are stored; the engine keeps none."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.features: dict[str, dict[int, Tensor]] = {}
        self.outputs: dict[int, Tensor] = {}
        self.changes: list[float | None] = []
        self.person: Tensor | None = None
        self.before: Tensor | None = None
        self.run: tuple[Any, int] | None = None

    def watch(self, handle: Handle) -> None:
        handle.on_store = self.add

    def add(self, stored: Stored) -> bool:
        """Sample one stream of a region; the first one is the one with the video tokens."""
        taken = self.features.setdefault(stored.region.id, {}) if stored.region.members else self.outputs
        if not (stored.leads and stored.step.evaluation == 0):
            return False
        self.run = self.run or stored.run
        step = stored.step.index
        if self.run == stored.run and step not in taken:
            taken[step] = self._of_tokens(stored) if stored.region.members else self._of_output(stored.value)
        return False

    def _of_tokens(self, stored: Stored) -> Tensor:
        """[n, D] of a value [B, S, D], whose video tokens are counted through all samples."""
        value, mask = stored.value, None
        if value.ndim == 3:
            video, mask = stored.tokens()
            value, mask = (video, mask) if video.shape[1] else (value, None)
        if self.person is None and mask is not None:
            everywhere = mask.expand(value.shape[0], -1).reshape(-1)
            self.person = spread(everywhere, self.most).float().cpu()
        return spread(value.reshape(-1, value.shape[-1]), self.most).float().cpu()

    def _of_output(self, now: Tensor) -> Tensor:
        """[m] places of an output; notes by how much all of it has changed since the step before."""
        now, before, changed = now.float(), self.before, None
        if before is not None and before.shape == now.shape:
            size = float(before.abs().sum())
            changed = float((now - before).abs().sum()) / size if size else 0.0
        self.before = now
        self.changes.append(changed)
        return spread(now.reshape(-1), self.most * PLACES).cpu()


def recorded(run: Run, scope: Scope, samples: int = 1024) -> Recording:
    """Record one run: what the scope's regions would store, what the model returns, how its time embedding changes.

    Features take ``T n D`` numbers of four bytes a region. A model whose injection sites are found during its first
    step is run a second time, since that step was stored in other regions.

    Args:
        run: runs the model under a method, watched. Of several runs (clips) in one call the first is recorded.
        samples: at most so many video tokens of a region, and 64 times as many places of the output.

    Raises:
        InputError: no region was there on all steps.
    """
    taken, handle = _watched(run, scope, samples)
    steps = [r for r in handle.trace.steps(0) if r.evaluation == 0]
    if any(len(f) < len(steps) for f in taken.features.values()):
        taken, handle = _watched(run, scope, samples)
        steps = [r for r in handle.trace.steps(0) if r.evaluation == 0]
    whole = {i: list(f.values()) for i, f in taken.features.items() if len(f) == len(steps)}
    whole = {i: f for i, f in whole.items() if len({v.shape for v in f}) == 1}
    if taken.features and not whole:
        raise InputError(
            f"No part of the model was computed with one shape on all {len(steps)} steps of the recorded call, so "
            "there is nothing to learn from it."
        )
    signals = tuple(r.error for r in steps)
    return Recording(
        features=MappingProxyType({i: torch.stack(f) for i, f in whole.items()}),
        outputs=torch.stack(list(taken.outputs.values())),
        signals=signals if any(s is not None for s in signals) else (),
        changes=tuple(taken.changes),
        timesteps=tuple(r.timestep for r in steps),
        person=taken.person,
    )


def _watched(run: Run, scope: Scope, samples: int) -> tuple[Samples, Handle]:
    """Run once with the time embedding in view; without it where the model has no such thing."""

    def under(gate: Gate) -> tuple[Samples, Handle]:
        taken = Samples(samples)
        return taken, run(Method(gate, AndOutput(scope), Reuse(), "recording"), taken.watch)

    try:
        return under(Never(Signal()))
    except UnsupportedModel:
        return under(Never())


def spread(values: Tensor, most: int) -> Tensor:
    """At most ``most`` of the first dimension's entries, evenly spread, the first and the last among them."""
    count = values.shape[0]
    if count <= most:
        return values
    return values[torch.linspace(0, count - 1, most, dtype=torch.float64).round().long().to(values.device)]
