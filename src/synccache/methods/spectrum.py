"""Spectrum: a Chebyshev polynomial fitted to the whole run so far, at gaps that grow.

Paper: Spectrum, arXiv 2603.01623, CVPR 2026 (formulas read in its release).
Formula: ``F(t) = phi(tau)^T (Phi^T Phi + ridge I)^-1 Phi^T F``, phi the Chebyshev polynomials T_0 to T_4 at
``tau = 2 t / total - 1`` (``forecasters/chebyshev.py``). The gap starts at ``interval`` and grows by ``growth``
with each step that is computed after the ``warmup``: 14 of 50 steps at 0.75, 10 at 3.
Readings: the release fits the tokens before the final layer, here it is what the blocks added to their input. The ridge
shrinks what is predicted: the weights sum to 0.94 one step behind an anchor and to 0.6 or 0.7 at the end of long gaps,
in a run of 20 steps to 0.4 on the last one. There the final layer's norm divides that out again; added to the live
input it would stay. So the fit is of differences from the newest anchor, and ``centred=False`` is the formula to the
letter. There all computed steps are held, here the newest ``anchors``. Its blend with a local Newton forecast is left
out.
Cost of a skipped step: one pass over the anchors; embedding and head (and injections, whose result is dropped).
Memory: one tensor per computed step and branch, up to ``anchors``: the most of all methods on the whole stack.
Use it on long runs, where the many early anchors carry the fit. ``decoupled=True`` keeps injections live.
Defaults: the release's but for ``anchors`` (there all) and ``centred``, as said above.
"""

from ..core.method import Method
from ..forecasters import Chebyshev
from ..gates import Growing
from .recipe import Recipe, Settings, protected, stack_scope


def build(s: Settings) -> Method:
    forecaster = Chebyshev(s["order"], s["ridge"], s["anchors"], s["centred"])
    return Method(protected(Growing(s["interval"], s["growth"]), s), stack_scope(s), forecaster, "spectrum")


RECIPE = Recipe(
    name="spectrum",
    summary="Computes steps at growing gaps and continues the stack's residual by a Chebyshev fit in between.",
    paper="Spectrum, arXiv 2603.01623, CVPR 2026",
    year=2026,
    gate="growing interval",
    scope="whole stack",
    forecaster="Chebyshev ridge regression",
    settings={
        "interval": 2, "growth": 0.75, "order": 4, "ridge": 0.1, "anchors": 16, "centred": True, "warmup": 5,
        "last": None, "max_gap": None, "decoupled": False,
    },
    build=build,
)  # fmt: skip
