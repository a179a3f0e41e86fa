"""A method: one choice on each axis."""

from __future__ import annotations

from dataclasses import dataclass

from .shorten import Fewer, Picked
from .types import Forecaster, Gate, Scope


@dataclass(frozen=True)
class Method:
    """WHEN × WHERE × HOW.

    Args:
        gate: when a step is computed.
        scope: which parts of the transformer are filled in on the other steps.
        forecaster: how their values are predicted.
        name: for traces and messages.
        guidance: how, on skipped steps, the other guidance branches' outputs are predicted from the deciding one's;
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
    shorten: Fewer | Picked | None = None
