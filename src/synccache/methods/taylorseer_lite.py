"""TaylorSeer-lite: one value for the whole stack, continued by a Taylor series.

Paper: TaylorSeer, arXiv 2503.06923, ICCV 2025; the lite form is in its releases.
Formula: schedule and series as ``taylorseer``, of one tensor per stream instead of one per module.
Reading: the release forecasts h_L, the tokens that leave the last block; here it is the residual ``R = h_L - h_0``,
which is added to this step's own embedding h_0. By linearity the two differ by ``h_0(t)`` against the series through
the anchors' h_0, so by what the embedding does between steps that the series doesn't foresee: the latent's change is
taken as it is. The head and its modulation are live in both, conditioning between the blocks stale in both.
Cost of a skipped step: embedding, injections, whose result is dropped, and head. Memory: ``order + 1`` tensors per
stream and branch.
Use it for long sequences, where a value per module takes too much; diffusers' form of it gave noise on FLUX for a
reason that wasn't found, so compare on your model. On models with injected conditioning ``linear`` keeps that live.
Defaults: interval 5, order 2, warm-up 3, those of the release for HunyuanImage 2.1.
"""

from ..core.method import Method
from ..forecasters import Taylor
from ..gates import Interval
from ..scopes import WholeStack
from .recipe import Recipe, Settings, protected


def build(s: Settings) -> Method:
    scope = WholeStack(absorb=True)
    return Method(protected(Interval(s["interval"]), s), scope, Taylor(s["order"]), "taylorseer-lite")


RECIPE = Recipe(
    name="taylorseer-lite",
    summary="Computes every n-th step and continues one value for the whole stack by a series in between.",
    paper="TaylorSeer, arXiv 2503.06923, ICCV 2025",
    year=2025,
    gate="fixed interval",
    scope="whole stack",
    forecaster="Taylor series",
    settings={"interval": 5, "order": 2, "warmup": 3, "last": None, "max_gap": None},
    build=build,
)
