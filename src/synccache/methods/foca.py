"""FoCa: the residuals as an ODE's solution, continued by BDF2 on a fixed interval.

Paper: FoCa, AAAI 2026, arXiv 2508.16211. Its equations were not to be had: the weights are those that L2P quotes, and
``heun=True`` is the reading in which the calibration evaluates the slope again (``forecasters/foca.py``). cache-dit's
FoCa is another rule (no BDF2, slopes not divided by their gap), which overshoots on gaps over 1.
Formula: ``F = ((1+r)^2 F_0 - r^2 F_1 + (1+r) k F_0') / (1+2r)``, k steps behind the newest anchor F_0, r = k over the
gap to F_1, F_0' the slope that three anchors have at the newest: (7/3, -5/3, 1/3) one gap ahead on even gaps.
Readings: what it is of (a module's output, a block's, the stack's) wasn't to be had either; here it is the residual of
each segment, as in the other methods that extrapolate, so that conditioning between blocks stays live.
Defaults: the paper's weren't known; interval 5 and warm-up 3 are those of ``hicache`` and ``taylorseer``, so that the
three differ by the formula alone, and three steps give the first forecast its three anchors.
Cost of a skipped step: embedding, head and injections only (no probe). Memory: three tensors per segment and branch.
Use it at short gaps: at one anchor gap ahead it weighs the newest anchor by 7/3, so noise in anchors is amplified.
"""

from ..core.method import Method
from ..forecasters import Foca
from ..gates import Interval
from .probing import SEGMENTED, segment_scope
from .recipe import Recipe, Settings, protected


def build(s: Settings) -> Method:
    return Method(protected(Interval(s["interval"]), s), segment_scope(s), Foca(s["heun"]), "foca")


RECIPE = Recipe(
    name="foca",
    summary="Computes every n-th step and continues the segments' residuals by BDF2 in between.",
    paper="FoCa, arXiv 2508.16211, AAAI 2026",
    year=2026,
    gate="fixed interval",
    scope="segments between injection sites",
    forecaster="BDF2",
    settings={
        "interval": 5, "heun": False, "warmup": 3, "last": None, "max_gap": None, **SEGMENTED, "cache_ratio": 1.0,
    },
    build=build,
)  # fmt: skip
