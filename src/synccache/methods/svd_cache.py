"""SVD-Cache: the few directions that hold most of the energy are forecast, the rest is reused.

Paper: SVD-Cache, arXiv 2601.07396, CVPR 2026 (read through two notes that agree on the formulas).
Formula: ``F = F_0 + P (E - F_0)``, ``P x = x V V^T``, V [D, k] the strongest right singular vectors of recorded
features, k the fewest that hold ``energy`` of their sum of squares. The paper's ``F V diag(s)^-1`` cut to k and
multiplied by ``diag(s) V^T`` again is the same: the singular values cancel. E by ``variant``:

- ``"average"``: ``E <- beta E + (1 - beta) F`` at computed steps, as the paper has it. At its beta of 0.9 that lags: of
  8 anchors the oldest weighs 0.48. It is called a forecast there, and is none.
- ``"newest"``: the same with beta on the newest anchor, in case that is what was meant.
- ``"slopes"``: ``F_0 + k S`` with S the average of the slopes between anchors.
- ``"polynomial"``: a Taylor series of ``order`` (other predictors on the principal part helped in its Fig. 5b).

Reading: the paper's average runs over all computed steps; here it starts at the oldest of ``anchors`` held.
Computed: the first ``warmup`` steps and every ``interval``-th after them.
Cost of a skipped step: two passes over the anchors and two matrix products with V, 4 D k operations a token; embedding
and head (and injections, whose result is dropped). Memory: ``anchors`` tensors per branch, ``order + 1`` for the
polynomial, and V.
Use it where differences between anchors are noisy: only what moves together is extrapolated. It needs a profile of the
model, which holds across inputs and numbers of steps. ``decoupled=True`` keeps injections live, and takes only a
profile that was made so.
Defaults: the paper's beta, energy and interval; 8 anchors, since all can't be held, and warm-up 3 are ours.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..core.method import Method
from ..core.types import Forecaster, Gate
from ..forecasters import Average, BySubspace, Reuse, Slopes, Subspace, Taylor, learn_basis
from ..gates import Interval
from .profiled import learned
from .recipe import Recipe, Recorder, Settings, protected, stack_scope

VARIANTS = ("average", "newest", "slopes", "polynomial")


def build(s: Settings) -> Method:
    basis = learned(s, "svd-cache", "basis", "the strongest directions among the channels", (None, None))
    forecaster = BySubspace(_principal(s), Reuse(), Subspace(basis))
    return Method(_gate(s), stack_scope(s), forecaster, "svd-cache")


def _gate(s: Settings) -> Gate:
    return protected(Interval(s["interval"]), s)


def _principal(s: Settings) -> Forecaster:
    if s["variant"] == "polynomial":
        return Taylor(s["order"])
    if s["variant"] == "slopes":
        return Slopes(s["beta"], s["anchors"])
    return Average(s["beta"] if s["variant"] == "average" else 1 - s["beta"], s["anchors"])


def learn(recorder: Recorder, s: Settings) -> Mapping[str, Tensor]:
    """``basis``: [D, k] float32."""
    features = recorder.record(stack_scope(s)).features
    return {"basis": learn_basis(torch.cat(list(features.values()), dim=1), s["energy"])}


RECIPE = Recipe(
    name="svd-cache",
    summary="Computes every n-th step; in between the principal directions are averaged or forecast, the rest reused.",
    paper="SVD-Cache, arXiv 2601.07396, CVPR 2026",
    year=2026,
    gate="fixed interval",
    scope="whole stack",
    forecaster="by subspace: moving average, reuse",
    settings={
        "interval": 5, "variant": "average", "beta": 0.9, "anchors": 8, "order": 1, "energy": 0.85, "warmup": 3,
        "last": None, "max_gap": None, "decoupled": False, "profile": None,
    },
    build=build,
    needs="a profile of the model",
    learn=learn,
    shapes=("decoupled", "energy"),
    alone={"gate": _gate, "scope": stack_scope},
)  # fmt: skip
