"""SyncCache with a damped linear forecast of each segment's residual. Ours, not the paper's.

Formula: gate and scope as ``synccache``; the residual is ``F_0 + c s (F_0 - F_1)``, s the distance in anchor gaps.
Cost of a skipped step: as ``synccache`` plus one more pass over the residuals. Memory: twice ``synccache``'s.
Use it for short gaps (up to about 3×); at long gaps or high guidance lower ``contraction``, 0 being reuse.
Defaults: contraction 1/2, the best compromise that a prototype showed at 40 steps with guidance 3; 1 on the packaged
portrait model, where it beat 1/2 and 3/4 on each clip tried.
"""

from ..engine.method import Method
from ..forecasters import Lagrange
from .probing import PROBED, SEGMENTED, TUNED, probing_gate, segment_scope
from .recipe import Recipe, Settings


def build(s: Settings) -> Method:
    return Method(probing_gate(s), segment_scope(s), Lagrange(1, s["contraction"]), "synccache-linear")


RECIPE = Recipe(
    name="synccache-linear",
    summary="SyncCache's probe and segments, with the residuals extrapolated half of the way instead of reused.",
    paper="ours",
    gate="spatially-asymmetric probe, accumulated",
    scope="segments between injection sites",
    forecaster="linear, contracted",
    settings={**PROBED, **SEGMENTED, "contraction": 0.5},
    build=build,
    models={"portrait": {**TUNED["portrait"], "contraction": 1.0}},
    needs="a person mask (optional), a plan for cache_ratio < 1 (optional)",
)
