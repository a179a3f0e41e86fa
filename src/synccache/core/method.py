"""A method: one choice on each axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from .anatomy import Anatomy
from .types import Forecaster, Gate, Region, Scope, innermost


class Shorten(Protocol):
    """Cuts a run to fewer steps (``synccache.sampling``)."""

    def length(self, asked: int) -> int:
        """Steps of a run that is asked for ``asked``."""


@dataclass(frozen=True)
class Method:
    """WHEN × WHERE × HOW.

    Args:
        gate: when a step is computed.
        scope: which parts of the transformer are filled in on the other steps.
        forecaster: how their values are predicted.
        name: for traces and messages.
        guidance: how, on skipped steps, the other guidance branches' outputs are predicted from the leading one's;
            None: they are run like it, their own regions filled in.
        shorten: how the pipeline's schedule is cut to fewer steps (for controls), or None.

    Example:
        >>> from synccache import gates, scopes, forecasters
        >>> method = Method(gates.Interval(3), scopes.WholeStack(), forecasters.Lagrange(order=1))
        >>> synccache.apply(pipe, method)
    """

    gate: Gate
    scope: Scope
    forecaster: Forecaster
    name: str = "custom"
    guidance: Forecaster | None = None
    shorten: Shorten | None = None

    def regions(self, anatomy: Anatomy, plan: Any = None) -> tuple[Region, ...]:
        """What the scope cuts the transformer into, and what other branches add to the leading one."""
        found = self.scope.regions(anatomy, innermost(self.gate).measure.blocks, plan)
        if self.guidance is None:
            return found
        return (*found, Region("guidance", (), "guidance", forecaster=self.guidance))

    @property
    def needs_length(self) -> bool:
        """Whether the gate, or one around it, goes by how many steps a run will have."""
        gate: Any = self.gate
        while True:
            if getattr(gate, "needs_length", False):
                return True
            if not hasattr(gate, "gate"):
                return False
            gate = gate.gate
