"""What a method's file provides: a name, where it comes from, its settings, and how it is built from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..engine.method import Method
from ..engine.types import Gate
from ..gates import Last, MaxGap, Warmup
from ..scopes import WholeStack

PARTS = ("gate", "scope", "forecaster")
Settings = Mapping[str, Any]
Learn = Callable[[Any, Callable[[], Any], Settings], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Recipe:
    """A published method (or one of ours) as gate × scope × forecaster.

    Attributes:
        name: as users type it.
        summary: one line.
        paper: title, venue and number; "ours" for this project's own.
        gate, scope, forecaster: in words, for tables.
        settings: the settings it takes, with their defaults.
        build: makes the method from complete settings (and the plan, if any, under ``"plan"``; where it lends its gate
            to a composed method, that one's forecaster under ``"forecaster"``).
        models: defaults that differ by anatomy name (``"wan"``), or by that and the number of blocks (``"wan/40"``).
        needs: what the user should provide for it to work as meant.
        shapes: names of settings that shape what it learns; it is used as it learnt with them.
        learn: makes a profile's tensors from what ``apply`` takes, a call that runs the pipeline once, and settings;
            None: there is nothing to learn. ``build`` gets the ``Profile`` (or None) as the setting ``"profile"``.
        alone: makers of the parts that are what they are without a profile, or a list in its place; the profile serves
            the others.
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
        """The parts that a profile has a say in."""
        return tuple(part for part in PARTS if part not in self.alone) if "profile" in self.settings else ()

    def info(self) -> dict[str, Any]:
        """Everything but the code, as plain values."""
        names = ("name", "summary", "paper", "year", "gate", "scope", "forecaster", "needs")
        known = {n: getattr(self, n) for n in names}
        return {**known, "learns": self.learn is not None, "settings": dict(self.settings)}


def protected(gate: Gate, s: Settings) -> Gate:
    """``gate`` within the settings ``max_gap``, ``last`` and ``warmup``, as far as they are on (neither None nor 0)."""
    if s.get("max_gap"):
        gate = MaxGap(gate, s["max_gap"])
    if s.get("last"):
        gate = Last(gate, s["last"])
    if s.get("warmup"):
        gate = Warmup(gate, s["warmup"])
    return gate


def stack_scope(s: Settings) -> WholeStack:
    """The whole stack, conditioning inside it live where ``decoupled``."""
    return WholeStack(absorb=not s["decoupled"])
