"""Spatially-asymmetric forecasting: the person is extrapolated, the background reused. Ours.

Formula: gate and scope as ``synccache``; each token's residual is ``M F_person + (1 - M) F_0``, with
``F_person = F_0 + c s (F_0 - F_1)`` held still beyond ``person_gap`` steps, and M the person mask on the token grid.
Cost of a skipped step: as ``synccache`` plus one more pass over the residuals. Memory: twice ``synccache``'s.
Use it at higher speed-ups, where extrapolating the background starts to hurt; it needs a person mask, without which it
is ``synccache-linear``.
"""

from ..engine.method import Method
from ..forecasters import ByPerson, Lagrange, Reuse
from .probing import PROBED, SEGMENTED, TUNED, probing_gate, segment_scope
from .recipe import Recipe, Settings


def build(s: Settings) -> Method:
    person = Lagrange(1, s["contraction"], s["person_gap"] or float("inf"))
    return Method(probing_gate(s), segment_scope(s), ByPerson(person, Reuse()), "asymmetric")


RECIPE = Recipe(
    name="asymmetric",
    summary="Extrapolates the person's tokens and reuses the background's, within SyncCache's probe and segments.",
    paper="ours",
    gate="spatially-asymmetric probe, accumulated",
    scope="segments between injection sites",
    forecaster="by person mask: linear contracted, reuse",
    settings={**PROBED, **SEGMENTED, "contraction": 0.5, "person_gap": None},
    build=build,
    models=TUNED,
    needs="a person mask",
)
