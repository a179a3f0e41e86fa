"""What a method's file provides: a name, where it comes from, its settings, and how it is built from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from ..core.method import Method
from ..core.types import Gate, Scope
from ..defaults import default_of
from ..gates import Last, MaxGap, Warmup
from ..scopes import WholeStack
from .recording import Recording

PARTS = ("gate", "scope", "forecaster")
Settings = Mapping[str, Any]


class Recorder(Protocol):
    """Runs a model uncached and watches it. Each call of one of its methods is one run of the pipeline."""

    def record(self, scope: Scope) -> Recording:
        """Keep samples of what the scope's regions would store, and of what the model returns."""

    def segments(self, mask_weight: float) -> Mapping[str, Tensor]:
        """Measure how much each run of neighbouring segments changes from step to step, and a probe's errors.

        Returns a plan's tensors, as ``profiles.Plan.tensors`` describes them.
        """

    def background(self, share: float) -> Mapping[str, Tensor]:
        """Find the ``share`` of the blocks that look at the background most; needs a person mask.

        Returns ``blocks`` (int64, ascending), and ``scores`` of all blocks (float32).
        """


Learn = Callable[[Recorder, Settings], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Recipe:
    """A published method (or one of ours) as gate × scope × forecaster.

    Attributes:
        name: what users type.
        summary: one line.
        paper: title, venue and number; "ours" for this project's own.
        gate, scope, forecaster: the three parts in words, for tables.
        settings: the settings that the method takes, with their defaults.
        build: makes the method from complete settings. It finds the plan of segments to merge (or None) under
            ``"plan"`` and the ``Profile`` (or None) under ``"profile"``. When the recipe lends its gate to a composed
            method, ``"forecaster"`` holds that method's forecaster.
        models: defaults for one model family (``"wan"``), or for the family's model with that many blocks
            (``"wan/40"``).
        needs: what the user should provide so that the method works as meant.
        year: when it was published.
        learn: makes a profile's tensors from runs of the model; None: the method learns nothing.
        shapes: names of the settings that change what is learnt. A profile is used with the values it was learnt with.
        alone: makers of those parts that don't depend on a profile; the profile decides about the others.
    """

    name: str
    summary: str
    paper: str
    gate: str
    scope: str
    forecaster: str
    settings: Settings
    build: Callable[[Settings], Method]
    models: Mapping[str, Settings] = field(default_factory=dict)
    needs: str = "nothing"
    year: int | None = None
    learn: Learn | None = None
    shapes: tuple[str, ...] = ()
    alone: Mapping[str, Callable[[Settings], Any]] = field(default_factory=dict)

    @property
    def profile_serves(self) -> tuple[str, ...]:
        """The parts that a profile decides about."""
        return tuple(part for part in PARTS if part not in self.alone) if "profile" in self.settings else ()

    def info(self) -> dict[str, Any]:
        """Everything but the code, as plain values."""
        names = ("name", "summary", "paper", "year", "gate", "scope", "forecaster", "needs")
        known = {n: getattr(self, n) for n in names}
        more = {"learns": self.learn is not None, "default_for": default_of(self.name)}
        return {**known, **more, "settings": dict(self.settings)}


def protected(gate: Gate, s: Settings) -> Gate:
    """``gate`` inside ``MaxGap``, ``Last`` and ``Warmup``, where the settings of these names are neither None nor 0."""
    if s.get("max_gap"):
        gate = MaxGap(gate, s["max_gap"])
    if s.get("last"):
        gate = Last(gate, s["last"])
    if s.get("warmup"):
        gate = Warmup(gate, s["warmup"])
    return gate


def stack_scope(s: Settings) -> WholeStack:
    """The whole stack as one region; with ``decoupled`` the conditioning inside it stays live."""
    return WholeStack(absorb=not s["decoupled"])
