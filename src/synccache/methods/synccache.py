"""SyncCache: audio modules live, visual residuals between them reused, decided by a probe that looks at the person.

Paper: "SyncCache", arXiv 2606.30849, ECCV 2026 (a reconstruction; no code was published).
Formula: the first block always runs; ``e = sum w|p - p_before| / sum w|p_before|``, ``w = 1 + (omega - 1) mask``, is
added up; over ``threshold`` the step is computed and the sum starts again, else each segment between two audio modules
adds its stored residual and every audio module runs with this step's inputs.
Reading: with fewer tensors than segments, neighbours merge; audio modules inside a merged segment stay live here, since
what is stored is the sum of the blocks' own residuals. The paper is ambiguous: they may be meant as absorbed.
Computed: with ``computed_steps=N`` exactly N steps of every run. A profile's errors, if they were measured with the
same ``mask_weight``, tell which: they are stretched to a run of another length, and scaled to this run's errors.
Without a profile the steps behind the warm-up (at most a third of N) are spread evenly.
Cost of a skipped step: one block and the audio modules. Memory: ``min(S, max(1, floor(cache_ratio * L_a)))`` tensors of
the token sequence's size per guidance branch, and one for the probe.
Use it for audio-driven portraits, where lips must follow the speech and the background hardly changes.
Not for few-step (distilled) models, and where nothing is injected between blocks it is no better than ``whole-stack``.
Defaults: omega 2 and cache ratio 0.4 are the paper's; threshold, warm-up and last step were not published.
"""

from ..core.method import Method
from ..forecasters import Reuse
from .probing import PROBED, SEGMENTED, TUNED, learn_segments, probing_gate, segment_scope
from .recipe import Recipe, Settings


def build(s: Settings) -> Method:
    return Method(probing_gate(s), segment_scope(s), Reuse(), "synccache")


RECIPE = Recipe(
    name="synccache",
    summary="Keeps audio modules live and reuses the visual residuals between them; probes where the person is.",
    paper="SyncCache, arXiv 2606.30849, ECCV 2026",
    year=2026,
    gate="spatially-asymmetric probe, accumulated",
    scope="segments between injection sites",
    forecaster="reuse",
    settings={**PROBED, **SEGMENTED},
    build=build,
    learn=learn_segments,
    models=TUNED,
    needs="a person mask (optional), a profile for cache_ratio < 1 (optional)",
)
