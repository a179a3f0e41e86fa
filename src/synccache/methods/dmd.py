"""DMD: the run so far is split into modes that grow, shrink or turn, and these go on.

Source: the DMD calibrator of cache-dit, after hicache++ (there on what DBCache leaves out); dynamic mode decomposition
is Schmid's, Journal of Fluid Mechanics 2010.
Formula: ``F_{i+1} = A F_i`` fitted to the evenly spaced newest anchors; ``F = Re sum_m phi_m lambda_m^s b_m``, all from
their inner products (``forecasters/dmd.py``). With fewer than four such anchors a straight line, where the fit is
degenerate reuse.
Computed: the first ``warmup`` steps and every ``interval``-th after them. Four warm-up steps serve the first gap; after
it the spacing is another one, and it takes ``3 interval`` steps until four anchors lie evenly again (with the
calibrator's usual 3 and 6: not before step 20).
Readings: there each sample of a batch has a fit of its own, here the batch shares one.
Cost of a skipped step: one pass over the anchors; embedding and head (and injections, whose result is dropped). The
first one behind a computed step also takes as many inner products in float64 as there are anchors. Memory: ``anchors``
tensors per branch.
Use it on long runs with an even schedule. Modes may grow: at long gaps it can run away (the one test found by a third
party has it ahead of Taylor on FLUX and far behind on DiT-XL). ``decoupled=True`` keeps injections live.
Defaults: the calibrator's history of 6; an interval of 4 and four warm-up steps are ours, for the first gap's sake.
"""

from ..core.method import Method
from ..forecasters import Dmd
from ..gates import Interval
from .recipe import Recipe, Settings, protected, stack_scope


def build(s: Settings) -> Method:
    return Method(protected(Interval(s["interval"]), s), stack_scope(s), Dmd(s["anchors"]), "dmd")


RECIPE = Recipe(
    name="dmd",
    summary="Computes every n-th step and continues the stack's residual by dynamic mode decomposition in between.",
    paper="DMD calibrator of cache-dit",
    year=2026,
    gate="fixed interval",
    scope="whole stack",
    forecaster="dynamic mode decomposition",
    settings={"interval": 4, "anchors": 6, "warmup": 4, "last": None, "max_gap": None, "decoupled": False},
    build=build,
)
