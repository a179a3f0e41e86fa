"""Linear forecast on a fixed interval: TaylorSeer's first order, on segments instead of modules.

Paper: TaylorSeer, arXiv 2503.06923, ICCV 2025 (order 1; there per module); Lagrange weights hold on uneven gaps too.
Formula: ``F(t) = F_0 + c (t - t_0) / (t_0 - t_1) (F_0 - F_1)``, c = ``contraction``.
Cost of a skipped step: embedding, head and injections only (no probe). Memory: two tensors per segment and branch.
Use it at gaps up to about 3; beyond, or under strong guidance, it overshoots: lower ``contraction`` or ``max_gap``.
Defaults: as ``interval``, so that the two differ by the forecast alone; the line goes its whole way.
"""

from ..core.method import Method
from ..forecasters import Lagrange
from ..gates import Interval
from .probing import SEGMENTED, segment_scope
from .recipe import Recipe, Settings, protected


def build(s: Settings) -> Method:
    return Method(protected(Interval(s["interval"]), s), segment_scope(s), Lagrange(1, s["contraction"]), "linear")


RECIPE = Recipe(
    name="linear",
    summary="Computes every n-th step and extrapolates the segments' residuals linearly in between.",
    paper="TaylorSeer (order 1), arXiv 2503.06923, ICCV 2025",
    year=2025,
    gate="fixed interval",
    scope="segments between injection sites",
    forecaster="linear",
    settings={
        "interval": 3, "contraction": 1.0, "warmup": 0.1, "last": 1, "max_gap": None, **SEGMENTED, "cache_ratio": 1.0,
    },
    build=build,
)  # fmt: skip
