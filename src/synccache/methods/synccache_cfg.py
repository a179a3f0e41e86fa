"""SyncCache with a linear forecast, and with the guidance direction forecast as well. Ours, not the paper's.

Formula: gate, scope and residuals of the deciding (conditional) branch as ``synccache-linear``. On a skipped step the
other branches' transformer isn't called: their output is the deciding branch's of this very step plus the linear
forecast of the difference between the two, so that the audio stays live. The idea of reusing the difference is
FasterCache's CFG-Cache (Lv et al., arXiv:2410.19355), which does it on the guidance branch's frequencies.
Cost of a skipped step: half of ``synccache-linear``'s with guidance, the same without. Memory: half of it, plus
three outputs of the model.
Use it where guidance takes two calls a step, the conditional one first or named so. Without guidance, or with both
branches in one batch, it does what ``synccache-linear`` does.
Defaults: ``synccache-linear``'s; the forecast of the guidance direction is the same line.
"""

from ..core.method import Method
from .probing import FORECAST, PROBED, SEGMENTED, TUNED_FORECAST, learn_segments, line, probing_gate, segment_scope
from .recipe import Recipe, Settings


def build(s: Settings) -> Method:
    return Method(probing_gate(s), segment_scope(s), line(s), "synccache-cfg", guidance=line(s))


RECIPE = Recipe(
    name="synccache-cfg",
    summary="synccache-linear that forecasts the guidance direction too: a skipped step runs one branch.",
    paper="ours",
    gate="spatially-asymmetric probe, accumulated",
    scope="segments between injection sites; whole output of the other guidance branches",
    forecaster="linear, contracted",
    settings={**PROBED, **SEGMENTED, **FORECAST},
    build=build,
    learn=learn_segments,
    models=TUNED_FORECAST,
    needs="guidance in two calls a step; a person mask (optional), a profile for cache_ratio < 1 (optional)",
)
