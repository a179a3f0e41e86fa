"""One call of the transformer, while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...core.types import Action, Decision, Region, Seen, Step
from ..engine import Engine, Expert
from ..place.conditioning import Prints
from ..place.evidence import Evidence
from ..place.told import Told
from ..store.session import Session
from .capture import Capture
from .rows import Rows

Run = Callable[..., Any]  # a module's own call


class Call(Evidence):
    """What is known of the call in progress.

    Attributes:
        located: whether its place in its run was found; ``step``: that place.
        decides: whether this branch's decision is the one that others follow.
        alone: whether its output is told from another branch's, or would be: then no region of its own is filled in.
        called: indices of the blocks that were called; ``latest``: of the last one.
        captures: open sums by region id; ``begun``: ids of the regions whose value was already added.
        watched: what the gate may look at, by name; probes still hold all tokens of the stream.
        inputs: numbers of what the first block takes in besides the stream, if somebody has to look at them.
        held: streams that an ``"absorbed"`` region gives back at its end.
        shapes: of the streams that the current block received, the main one first.
        entry: a copy of what the first block received, until the probe blocks have run, for a gate that wants it.
        weights: of forecasters, by anchors' times.
        length: of the first block's main stream, once that is called; ``rows``: those that are computed alone.
        attention: takes part in the self-attention of the block that runs, where keys and values matter.
        work: how many blocks were computed, of a part of their tokens as that part.
        wanted: numbers that have to be brought from the device, and what takes them.
    """

    step: Step

    def __init__(
        self, engine: Engine, expert: Expert, session: Session, bound: Mapping[str, Any], told: Told, label: Hashable
    ) -> None:
        super().__init__(bound, expert.structure.anatomy, told, label, engine.schedule)
        self.engine, self.expert, self.session, self.bound = engine, expert, session, bound
        self.located = False
        self.decision: Decision | None = None
        self.decides = True
        self.alone = False
        self.seen = Seen()
        self.watched: dict[str, Tensor] = {"latent": self.latents.tensors[0]}
        self.inputs: Prints | None = None
        self.captures: dict[str, Capture] = {}
        self.begun: set[str] = set()
        self.held: dict[str, dict[str, Tensor]] = {}
        self.shapes: list[torch.Size] = []
        self.entry: Tensor | None = None
        self.weights: dict[Hashable, Sequence[float | Tensor] | Tensor] = {}
        self.called: set[int] = set()
        self.latest = -1
        self.length = 0
        self.rows: Rows | None = None
        self.attention: Any = None
        self.work = 0.0
        self.called_parts: set[tuple[int, str]] = set()
        self.started = time.perf_counter()
        self.mark = engine.timing.start(self.latents.tensors[0].device)
        self.wanted: list[tuple[Tensor, Callable[[list[float]], None]]] = []

    @property
    def key(self) -> Hashable:
        """Under what the gate's state is kept: None where the branches share it."""
        return None if self.engine.shared else self.branch.name

    def place(self, region: Region) -> tuple[int, Hashable, str]:
        """Where a region's anchors are kept."""
        return self.expert.index, self.branch.name, region.id

    @property
    def reaching(self) -> frozenset[str]:
        """Names of changed arguments that may reach the blocks."""
        return self.changed - set(self.expert.structure.anatomy.live)

    def is_filled(self, region: Region) -> bool:
        return self.decision is not None and not self.alone and self.decision.of(region) is Action.FILL

    def want(self, numbers: Tensor, then: Callable[[list[float]], None]) -> None:
        """Have ``numbers`` brought to the host with all others, and given to ``then``."""
        self.wanted.append((numbers.detach().reshape(-1), then))

    def bring(self) -> None:
        """Bring all that is wanted, in one transfer."""
        wanted, self.wanted = self.wanted, []
        if not wanted:
            return
        self.engine.reads += 1
        device = wanted[-1][0].device
        wide = torch.float32 if device.type == "mps" else torch.float64
        values = torch.cat([n.to(device, wide) for n, _ in wanted]).tolist()
        for numbers, then in wanted:
            then(values[: numbers.numel()])
            del values[: numbers.numel()]
