"""Settings and gate shared by the methods that decide by a probe."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..core.types import Gate, Scope
from ..forecasters import Lagrange
from ..gates import Budget, Probe, Threshold
from ..scopes import Segments, WholeStack
from .recipe import Recorder, Settings, protected

PROBED = {"threshold": 0.1, "computed_steps": None, "mask_weight": 2.0, "warmup": 0.1, "last": 1, "max_gap": None}
# The portrait model: 12 of 40 steps computed on the clip that its profile was learnt from (`synccache profile`).
TUNED = {"portrait": {"threshold": 0.16}}
# The same with a linear forecast: chosen on six rendered clips of people and speech from the training side.
FORECAST = {"contraction": 0.5, "reach": 1.5}
TUNED_FORECAST = {"portrait": {"threshold": 0.22, "max_gap": 5, "contraction": 1.0}}
SEGMENTED = {"cache_ratio": 0.4, "boundaries": None, "decoupled": True, "plan": None}


def probing_gate(s: Settings) -> Gate:
    """Threshold on the accumulated probe error, or exactly as many steps as ``computed_steps`` says; protected.

    Which steps these are, a plan's errors tell if a probe of the same ``mask_weight`` measured them; otherwise they are
    spread evenly.
    """
    weight, plan = s.get("mask_weight") or 1.0, s.get("plan")
    probe = Probe(omega=weight)
    if s.get("computed_steps") is None:
        return protected(Threshold(s["threshold"], probe), s)
    fits = plan is not None and plan.mask_weight in (None, weight)
    errors = getattr(plan, "errors", ()) if fits else ()
    return Budget(protected(Threshold(0.0, probe), s), s["computed_steps"], errors or None)


def line(s: Settings) -> Lagrange:
    """The straight line through two anchors, as far as ``contraction`` and ``reach`` let it go."""
    return Lagrange(1, s["contraction"], reach=s["reach"] or float("inf"))


def segment_scope(s: Settings) -> Scope:
    """Segments between injection sites; without decoupling the whole stack, stale injections included."""
    if not s.get("decoupled", True):
        return WholeStack(absorb=True)
    boundaries = s.get("boundaries")
    return Segments(s.get("cache_ratio") or 1.0, None if boundaries is None else tuple(boundaries))


def learn_segments(recorder: Recorder, s: Settings) -> Mapping[str, Tensor]:
    """A plan's tensors: the segments' instability, and the probe's errors."""
    return recorder.segments(s["mask_weight"])
