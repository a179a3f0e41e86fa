"""SyncCache with a damped linear forecast of each segment's residual. Ours, not the paper's.

Formula: gate and scope as ``synccache``; the residual is ``F_0 + c s (F_0 - F_1)``, s the distance in gaps between the
two anchors, at most ``reach``: behind a warm-up the first gap is long and the anchors are close.
Cost of a skipped step: as ``synccache`` plus one more pass over the residuals. Memory: twice ``synccache``'s.
Use it for short gaps (up to about 3×); at long gaps or high guidance lower ``contraction``, 0 being reuse.
Defaults: contraction 1/2, the best compromise that a prototype showed at 40 steps with guidance 3; reach 3/2. On the
packaged portrait model 1, with at most four skips in a row; without ``reach`` it lost 10 dB there.
"""

from ..core.method import Method
from .probing import FORECAST, PROBED, SEGMENTED, TUNED_FORECAST, learn_segments, line, probing_gate, segment_scope
from .recipe import Recipe, Settings


def build(s: Settings) -> Method:
    return Method(probing_gate(s), segment_scope(s), line(s), "synccache-linear")


RECIPE = Recipe(
    name="synccache-linear",
    summary="SyncCache's probe and segments, with the residuals extrapolated half of the way instead of reused.",
    paper="ours",
    gate="spatially-asymmetric probe, accumulated",
    scope="segments between injection sites",
    forecaster="linear, contracted",
    settings={**PROBED, **SEGMENTED, **FORECAST},
    build=build,
    learn=learn_segments,
    models=TUNED_FORECAST,
    needs="a person mask (optional), a profile for cache_ratio < 1 (optional)",
)
