"""HiCache: a damped series on a fixed interval.

Paper: HiCache, ICLR 2026, arXiv 2508.16984 (there per attention and MLP output; here on segments between injections).
Formula: ``F_0 + sum_i f[t_0..t_i] sigma^i H_i(sigma k)``, H Hermite polynomials, k steps behind the newest anchor.
Cost of a skipped step: embedding, head and injections only (no probe). Memory: ``order + 1`` tensors per segment and
branch. Computed: the first ``warmup`` steps and every ``interval``-th after them, as TaylorSeer does.
Use it where a full extrapolation overshoots; the paper gives no rule for sigma. Defaults: interval 5 is its launcher's,
sigma 0.5 and order 2 are the paper's.
"""

from ..core.method import Method
from ..forecasters import Hermite
from ..gates import Interval
from .probing import SEGMENTED, segment_scope
from .recipe import Recipe, Settings, protected


def build(s: Settings) -> Method:
    return Method(protected(Interval(s["interval"]), s), segment_scope(s), Hermite(s["order"], s["sigma"]), "hicache")


RECIPE = Recipe(
    name="hicache",
    summary="Computes every n-th step and continues the segments' residuals by a damped Hermite series in between.",
    paper="HiCache, arXiv 2508.16984, ICLR 2026",
    year=2026,
    gate="fixed interval",
    scope="segments between injection sites",
    forecaster="Hermite series",
    settings={
        "interval": 5, "order": 2, "sigma": 0.5, "warmup": 3, "last": None, "max_gap": None, **SEGMENTED,
        "cache_ratio": 1.0,
    },
    build=build,
)  # fmt: skip
