"""One call of the transformer, while it runs."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from .anatomy import tensors_in, version
from .capture import Capture
from .clock import Position
from .fingerprint import Conditioning, Latents
from .session import Session
from .types import Decision, Region, Seen, Step


class Call:
    """What is known of the call in progress.

    Attributes:
        timestep: on the host; None while it is still on the accelerator (``pending``), to come over with the error.
        position, step, decision: None until decided.
        decides: whether this branch's decision is the one that others follow.
        called: indices of the blocks that were called; latest: of the last one.
        captures: open sums by region id.
        begun: ids of the regions whose value was already added.
        watched: what the gate may look at, by name; probes still hold all tokens of the stream.
        parts: regions that are a module inside a block, by block and name.
        held: streams that an ``"absorbed"`` region gives back at its end.
        shapes: of the streams that the current block received, the main one first.
        entry: a copy of what the first block received, until the probe blocks have run, for a gate that wants it.
    """

    def __init__(self, session: Session, expert: int, bound: Mapping[str, Any], timestep: str, latent: str) -> None:
        self.session, self.expert, self.bound = session, expert, bound
        self.latents = Latents(bound[latent])
        self.conditioning = Conditioning(bound, (timestep, latent))
        self.label: Hashable = None
        self.timestep: float | None = None
        self.pending: Tensor | None = None
        self.position: Position | None = None
        self.step: Step | None = None
        self.decision: Decision | None = None
        self.decides = True
        self.reason = ""
        self.seen = Seen()
        self.watched: dict[str, Tensor] = dict(zip(("latent",), tensors_in(bound[latent]), strict=False))
        self.regions: dict[int, Region] = {}
        self.parts: dict[tuple[int, str], Region] = {}
        self.captures: dict[str, Capture] = {}
        self.begun: set[str] = set()
        self.held: dict[str, dict[str, Tensor]] = {}
        self.shapes: list[torch.Size] = []
        self.entry: Tensor | None = None
        self.weights: dict[tuple[int, tuple[float, ...]], Tensor] = {}
        self.called: set[int] = set()
        self.latest = -1
        self.called_parts: set[tuple[int, str]] = set()
        self.started = time.perf_counter()

    def read_timestep(self, value: Any) -> None:
        """Find the timestep's value; one on an accelerator waits in ``pending`` unless it is the last call's object."""
        tensors = tensors_in(value)
        if not tensors:
            numbers = value if isinstance(value, list | tuple) else [value]
            self.timestep = max(float(v) for v in numbers)
            return
        last = self.session.seen_timestep
        marks = [version(t) for t in tensors]
        known = last is not None and len(last[0]) == len(tensors) and last[1] == marks and None not in marks
        if last is not None and known and all(a is b for a, b in zip(tensors, last[0], strict=True)):
            self.timestep = last[2]
            return
        highest = [t.detach().max().reshape(1).float() for t in tensors]
        self.pending = highest[0] if len(highest) == 1 else torch.cat(highest).max().reshape(1)
        self._timestep_tensors = (tensors, marks)
        if self.pending.device.type == "cpu":
            self.arrive(float(self.pending))

    def arrive(self, timestep: float) -> None:
        """The pending timestep has reached the host."""
        self.timestep, self.pending = timestep, None
        self.session.seen_timestep = (*self._timestep_tensors, timestep)
