"""Spatially-asymmetric forecasting: the person is extrapolated, the background reused. Ours.

Formula: gate and scope as ``synccache-linear``; each token's residual is ``M F_person + (1 - M) F_background``, M the
person mask on the token grid (0 on text tokens), both ``F_0 + c s (F_0 - F_1)`` held still beyond a largest gap:
``contraction`` and ``person_gap`` for the person, ``background_contraction`` (0, which is reuse) and ``background_gap``
for the rest.
Cost of a skipped step: as ``synccache`` plus one more pass over the residuals. Memory: twice ``synccache``'s.
Defaults: contraction 0.5, reach 1.5 and the portrait model's contraction 1 and max_gap 5 are ``synccache-linear``'s,
chosen for it on six rendered clips from the training side (``probing.py``); they weren't chosen again for this method.
Use it at higher speed-ups, where extrapolating the background starts to hurt; it needs a person mask, without which it
is ``synccache-linear``.
"""

from ..core.method import Method
from ..forecasters import ByPerson, Lagrange
from .probing import FORECAST, PROBED, SEGMENTED, TUNED_FORECAST, learn_segments, probing_gate, segment_scope
from .recipe import Recipe, Settings


def build(s: Settings) -> Method:
    reach = s["reach"] or float("inf")
    person = Lagrange(1, s["contraction"], s["person_gap"] or float("inf"), reach)
    background = Lagrange(1, s["background_contraction"], s["background_gap"] or float("inf"), reach)
    return Method(probing_gate(s), segment_scope(s), ByPerson(person, background), "asymmetric")


RECIPE = Recipe(
    name="asymmetric",
    summary="Extrapolates the person's tokens and reuses the background's, within SyncCache's probe and segments.",
    paper="ours",
    gate="spatially-asymmetric probe, accumulated",
    scope="segments between injection sites",
    forecaster="by person mask: linear contracted, reuse",
    settings={
        **PROBED, **SEGMENTED, **FORECAST, "person_gap": None, "background_contraction": 0.0, "background_gap": None,
    },
    build=build,
    learn=learn_segments,
    models=TUNED_FORECAST,
    needs="a person mask",
)  # fmt: skip
