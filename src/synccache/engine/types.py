"""The words the engine, gates, scopes and forecasters share; nothing here touches a model.

Every method answers three questions about a grid of steps × blocks × tokens: *when* is a step computed (a ``Gate``),
*where* is it filled in (a ``Scope`` cuts the blocks into ``Region``s), *how* is the missing value predicted (a
``Forecaster``'s weights over stored anchors, within a ``Split``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


class Action(Enum):
    """What a step does with a region."""

    COMPUTE = "computed"
    FILL = "skipped"


@dataclass(frozen=True)
class Region:
    """A part of the transformer that is computed or filled in as one.

    Attributes:
        id: name in traces, ``"blocks 1-4"``.
        members: indices of its blocks, ascending.
        value: what an anchor holds. ``"residual"``: the sum of (out - in) over the blocks, so that what the model adds
            between them stays live. ``"absorbed"``: last output minus first input; what is added in between is part of
            it and stale when filled in, as in caches that replace the whole stack.
    """

    id: str
    members: tuple[int, ...]
    value: str = "residual"

    @property
    def first(self) -> int:
        return self.members[0]

    @property
    def last(self) -> int:
        return self.members[-1]


@dataclass(frozen=True)
class Step:
    """Where a run stands.

    Attributes:
        index: 0 at the noisiest step.
        timestep: as the transformer was called with; the maximum of a vector.
        total: how many steps the run will have; None when nobody says.
        evaluation: 1 for the second call of a Heun step with another latent, else 0.
    """

    index: int
    timestep: float = 0.0
    total: int | None = None
    evaluation: int = 0


@dataclass(frozen=True)
class Run:
    """What is known when a run starts.

    Attributes:
        total: number of steps, or None.
        errors: probe error of every step of an earlier, fully computed run (first entry None), or None.
    """

    total: int | None = None
    errors: tuple[float | None, ...] | None = None


@dataclass(frozen=True)
class Seen:
    """What a gate may look at before it decides.

    Attributes:
        probe: [B, V, D] video tokens after the gate's probe blocks, or None.
        previous: the same of the step before, or None.
        mask: [B or 1, V] person weight of each video token in 0..1, or None.
        errors: per sample, what the gate's ``measure`` gave as numerator / denominator; None when nothing was measured.
    """

    probe: Tensor | None = None
    previous: Tensor | None = None
    mask: Tensor | None = None
    errors: tuple[float, ...] | None = None

    @property
    def error(self) -> float | None:
        """The worst sample's error; not-a-number counts as worst."""
        if self.errors is None:
            return None
        return next((e for e in self.errors if e != e), None) or max(self.errors)


@dataclass(frozen=True)
class Decision:
    """A gate's answer: one action for all regions, or (``plan``) one for each region's id."""

    action: Action
    reason: str = ""
    error: float | None = None
    total: float | None = None
    plan: Mapping[str, Action] | None = None

    def of(self, region: Region) -> Action:
        return self.plan.get(region.id, self.action) if self.plan else self.action

    @property
    def fills(self) -> bool:
        return self.action is Action.FILL or bool(self.plan and Action.FILL in self.plan.values())


@runtime_checkable
class Gate(Protocol):
    """WHEN. Frozen settings; the state is passed in and out. ``probe`` blocks run before it decides."""

    @property
    def probe(self) -> int: ...

    @property
    def skips(self) -> bool:
        """Whether it can ever leave out a step."""

    def init(self, run: Run) -> Any: ...

    def measure(self, seen: Seen) -> Tensor | None:
        """[B, 2] numerator and denominator of each sample's error, on the device: the engine brings them over."""

    def decide(self, state: Any, step: Step, seen: Seen) -> tuple[Decision, Any]: ...

    def record(self, state: Any, step: Step, decision: Decision, seen: Seen) -> Any:
        """The state after a step was done as ``decision`` says, which may be COMPUTE although FILL was asked for."""


@runtime_checkable
class Scope(Protocol):
    """WHERE. ``regions`` cuts the blocks from ``start`` on; blocks in no region always run."""

    def regions(self, anatomy: Any, start: int, plan: Any = None) -> tuple[Region, ...]: ...


@dataclass(frozen=True)
class Context:
    """What a forecaster may know besides the times.

    Attributes:
        step: the step to be filled in.
        mask: [B or 1, V] person weight of the video tokens, or None.
        offset: where the video tokens begin in the stream.
        extra: free for methods that need more (Gram matrices, probes).
    """

    step: Step
    mask: Tensor | None = None
    offset: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)


class Split(Protocol):
    """Projectors that sum to one. For token groups: ``groups`` gives [G, B or 1, S] weights of a stream's tokens."""

    def groups(self, value: Tensor, context: Context) -> Tensor | None: ...


@runtime_checkable
class Forecaster(Protocol):
    """HOW. The filled-in value is ``sum_g P_g sum_j w[g, j] anchor[j]``."""

    @property
    def anchors(self) -> int:
        """How many anchors it wants, at most."""

    @property
    def split(self) -> Split | None: ...

    def weights(self, times: Sequence[float], t: float, context: Context) -> Tensor:
        """[groups, anchors] float64 on the host, newest anchor first; ``len(times)`` may be less than ``anchors``."""
