"""Compute the steps on a list: given, or the best ones for the forecaster by a search over recorded features.

Formula: steps in ``schedule`` are computed, all others filled in by a Lagrange forecast of order ``order`` (0: reuse),
contracted by ``contraction``. With ``computed_steps`` and a profile the list is a shortest path over steps: from the
recorded features' inner products, the error of every gap is known for every pair of anchors before it
(``gates/schedules.py``). It weighs by the length of the sampler's steps, squared.
Cost of a skipped step: embedding, head and injections (no probe); with ``guided`` of one guidance branch only, the
others' output being the deciding branch's plus the forecast difference, as in ``synccache-cfg``. Memory: ``order + 1``
tensors per segment and branch.
Use it with a list that was searched for on your model; a list fits one scheduler and number of steps.
Defaults: reuse, on all segments, nothing protected: a list says all there is to say. Limit: it can't see content.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.method import Method
from ..core.types import Forecaster
from ..forecasters import Lagrange, Reuse
from ..gates import Listed
from ..gates.schedules import step_sizes
from .probing import SEGMENTED, segment_scope
from .profiled import best_listed, learned
from .recipe import Recipe, Recorder, Settings, protected


def build(s: Settings) -> Method:
    forecaster = _forecaster(s)
    gate = protected(_listed(s, forecaster), s)
    return Method(gate, segment_scope(s), forecaster, "schedule", guidance=forecaster if s["guided"] else None)


def _forecaster(s: Settings) -> Forecaster:
    order = s["order"]
    return Lagrange(order, s["contraction"], reach=s["reach"] or float("inf")) if order else Reuse()


def _listed(s: Settings, forecaster: Forecaster) -> Listed:
    if s["schedule"]:
        return Listed(frozenset(s["schedule"]))
    gram = learned(s, "schedule", "gram", "the inner products of the recorded features (or schedule=[0, 1, 4, ...])")
    costs = s["profile"].tensor("sizes", (len(gram),)).square()
    return best_listed(s, "schedule", forecaster, gram, costs)


def learn(recorder: Recorder, s: Settings) -> dict[str, Tensor]:
    """``gram`` [T, T] float64, each region's in units of its mean square, and ``sizes`` [T] of the sampler's steps."""
    recorded = recorder.record(segment_scope({**s, "cache_ratio": 1.0}))
    flat = [f.flatten(1).double() for f in recorded.features.values()]
    gram = sum((f @ f.T / f.square().sum(1).mean() for f in flat), torch.zeros(()))
    return {"gram": gram, "sizes": step_sizes(torch.tensor(recorded.timesteps))}


RECIPE = Recipe(
    name="schedule",
    summary="Computes listed steps, or those that a search found; the others are reused or extrapolated.",
    paper="common practice",
    gate="list of steps",
    scope="segments between injection sites",
    forecaster="reuse or Lagrange",
    settings={
        "schedule": None, "computed_steps": 10, "order": 0, "contraction": 1.0, "reach": None, "guided": False,
        "warmup": None, "last": None, "max_gap": None, "profile": None, **SEGMENTED, "cache_ratio": 1.0,
    },
    build=build,
    needs="a list of steps, or a profile of the same model, scheduler and number of steps",
    learn=learn,
    shapes=("decoupled",),
    alone={"scope": segment_scope, "forecaster": _forecaster},
)  # fmt: skip
