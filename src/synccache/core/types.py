"""The words the engine, gates, scopes and forecasters share; nothing here touches a model.

Every method answers three questions about a grid of steps × blocks × tokens: *when* is a step computed (a ``Gate``),
*where* is it filled in (a ``Scope`` cuts the blocks into ``Region``s), *how* is the missing value predicted (a
``Forecaster``'s weights over stored anchors, within a ``Split``).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from torch import Tensor

from .groups import Groups


class Action(Enum):
    """What a step does with a region."""

    COMPUTE = "computed"
    FILL = "skipped"


@dataclass(frozen=True)
class Region:
    """A part of the transformer that is computed or filled in as one: blocks, a module inside one, or all of it.

    Attributes:
        id: name in traces, ``"blocks 1-4"``.
        members: indices of its blocks, ascending; none for the whole model.
        value: what an anchor holds. ``"residual"``: the sum of (out - in) over the blocks, so that what the model adds
            between them stays live; of the whole model, output minus latent. ``"absorbed"``: last output minus first
            input; what is added in between is part of it and stale when filled in, as in caches that replace the whole
            stack. ``"output"``: what comes out, of the whole model or of a module. ``"guidance"``: the whole model's
            output minus that of the step's leading branch.
        part: name of the module inside the one member that this is about; "" for whole blocks.
        feeding: names of that member's other modules whose outputs go into ``part`` alone, and which needn't run where
            it is filled in.
        forecaster: how its missing value is predicted; None: as the method says.
        rows: some of its tokens may be computed without the others, so that what is kept has times of its own for each.
    """

    id: str
    members: tuple[int, ...]
    value: str = "residual"
    part: str = ""
    feeding: tuple[str, ...] = ()
    forecaster: Forecaster | None = None
    rows: bool = False

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the modules inside its member that are left out with it."""
        return (self.part, *self.feeding) if self.part else ()

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
        regions: what the scope has cut the transformer into.
    """

    total: int | None = None
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True)
class Watch:
    """How much of a tensor is kept for a gate: its value on the step ``before``, and on the last computed steps."""

    before: bool = False
    computed: int = 0


@dataclass(frozen=True)
class Tap:
    """A tensor that a gate watches.

    Attributes:
        now: on this step; None for the model's output, which isn't there yet.
        before: on the step before, whatever that step did; None where it isn't kept or hadn't this shape.
        computed: on the last computed steps, newest first.
    """

    now: Tensor | None
    before: Tensor | None = None
    computed: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Seen:
    """What a gate may look at before it decides.

    Attributes:
        taps: what it ``watches``, by name. ``"probe"``: [B, V, D] video tokens after the gate's probe blocks;
            ``"residual"``: those minus what the first block received; ``"signal"``: the time embedding (or whatever the
            anatomy names) that the first block is called with; ``"latent"``, ``"output"``: the model's first latent and
            the first tensor that it returned.
        mask: [B or 1, V] person weight of each video token in 0..1, or None.
        ratios: per sample, the quotients of what the gate's ``measure`` gave; None when nothing was measured.
        grid: (t, h, w) of the video tokens; ``others``: how many tokens their stream has besides. Gates that name
            groups of tokens are told both, once blocks are called.
    """

    taps: Mapping[str, Tap] = field(default_factory=dict)
    mask: Tensor | None = None
    ratios: tuple[tuple[float, ...], ...] | None = None
    grid: tuple[int, int, int] | None = None
    others: int = 0

    def tap(self, name: str) -> Tap:
        return self.taps.get(name, Tap(None))

    @property
    def error(self) -> float | None:
        """The worst sample's first ratio; not-a-number counts as worst."""
        if self.ratios is None:
            return None
        errors = [ratios[0] for ratios in self.ratios]
        return next((e for e in errors if e != e), None) or max(errors)


@dataclass(frozen=True)
class Decision:
    """A gate's answer: one action for all regions, or (``actions``) one for each region's id.

    With ``groups``, the tokens of the ``active`` ones are computed also where a region is filled in.
    """

    action: Action
    reason: str = ""
    error: float | None = None
    total: float | None = None
    actions: Mapping[str, Action] | None = None
    groups: Groups | None = None
    active: tuple[int, ...] = ()

    def of(self, region: Region) -> Action:
        return self.actions.get(region.id, self.action) if self.actions else self.action

    @property
    def fills(self) -> bool:
        return self.action is Action.FILL or bool(self.actions and Action.FILL in self.actions.values())


class Measure(Protocol):
    """What a gate looks at before it decides, and what it measures there.

    The gate decides as soon as all that is watched is there: before the model runs, when the first block is called (a
    ``"signal"``), or after ``blocks`` blocks, which always run.
    """

    @property
    def blocks(self) -> int: ...

    @property
    def watches(self) -> Mapping[str, Watch]: ...

    @property
    def ratios(self) -> int:
        """How many ratios ``measure`` gives of each sample."""

    def measure(self, seen: Seen) -> Tensor | None:
        """[B, 2 n] numerators and denominators of each sample's n ratios, on the device: the engine brings them over.

        The first ratio is the error. None where something to compare with is missing.
        """


class Gate(Protocol):
    """WHEN: a rule that goes by what its ``measure`` gives. Frozen settings; the state is passed in and out.

    A gate around another holds it as ``gate`` and has no ``measure`` and no ``skips`` of its own (``innermost``).
    """

    def init(self, run: Run) -> Any: ...

    def decide(self, state: Any, step: Step, seen: Seen) -> tuple[Decision, Any]: ...

    def record(self, state: Any, step: Step, decision: Decision, seen: Seen) -> Any:
        """The state after a step was done as ``decision`` says, which may be COMPUTE although FILL was asked for."""


def innermost(gate: Any) -> Any:
    """The gate inside all that is wrapped around it: it has the ``measure``, and says whether it ever ``skips``."""
    while hasattr(gate, "gate"):
        gate = gate.gate
    return gate


class Scope(Protocol):
    """WHERE. ``regions`` cuts the blocks from ``start`` on; blocks in no region always run."""

    def regions(self, anatomy: Any, start: int, plan: Any = None) -> tuple[Region, ...]: ...


@dataclass(frozen=True)
class Context:
    """What a forecaster may know besides the times.

    Attributes:
        step: the step to be filled in.
        seen: what the gate looked at.
        gram: [J, J] float64 on the host, inner products of the anchors, for a forecaster that asks for it.
        mask: [B or 1, V] person weight of the stream's video tokens (V may be 0), or None.
        grid: (t, h, w) of the video tokens, or None.
        offset: where the video tokens begin in the stream.
        video: whether the stream holds the video tokens.
    """

    step: Step
    seen: Seen = field(default_factory=Seen)
    gram: Tensor | None = None
    mask: Tensor | None = None
    grid: tuple[int, int, int] | None = None
    offset: int = 0
    video: bool = False


class Split(Protocol):
    """Projectors P_g that sum to one, each with weights of its own."""

    def add(self, value: Tensor, anchors: Sequence[Tensor], weights: Tensor, context: Context, onto: bool) -> Tensor:
        """``value + sum_g P_g sum_j w[g, j] anchor[j]``, or without ``value`` where not ``onto`` it.

        Args:
            value: [B, S, D]; the result has its dtype and device.
            anchors: each [B, S, D], newest first.
            weights: [G, J] float64 on the host.
        """


class Forecaster(Protocol):
    """HOW. The filled-in value is ``sum_g P_g sum_j w[g, j] anchor[j]``.

    One that can't go with every gate and region has ``refuses(gate, regions)``, which says why not, or gives None.
    """

    @property
    def anchors(self) -> int:
        """How many anchors it wants, at most."""

    @property
    def split(self) -> Split | None: ...

    @property
    def gram(self) -> bool:
        """Whether its weights depend on the anchors' inner products (``Context.gram``)."""

    def weights(self, times: Sequence[float], t: float, context: Context) -> Tensor:
        """[groups, anchors] float64 on the host, newest anchor first; ``len(times)`` may be less than ``anchors``."""


@dataclass(frozen=True)
class Stored:
    """A value that was just stored, as shown to ``Handle.on_store``.

    Attributes:
        region: what it is a value of.
        stream: which of its streams, or the place of the tensor in an output, ``"0"``.
        value: the tensor as it is kept.
        step: when.
        branch: of which guidance branch; ``leads``: whether that is the one whose decision the others follow.
        run: (request, run), as in ``Trace.runs``.
        video: whether the stream holds the video tokens.
        tokens: gives the video tokens [B, V, D] of the value, and their mask weights [1 or B, V] or None.
    """

    region: Region
    stream: str
    value: Tensor
    step: Step
    branch: Hashable
    leads: bool
    run: tuple[Hashable, int]
    video: bool
    tokens: Callable[[], tuple[Tensor, Tensor | None]]
