"""TaylorSeer: attention and feed-forward outputs continued by a Taylor series.

Paper: TaylorSeer, arXiv 2503.06923, ICCV 2025.
Formula: a module's output k steps behind the newest computed one is ``F_0 + sum_i f[t_0..t_i] k^i``, f divided
differences of the last ``order + 1`` computed outputs, the steps' indices standing for time. Computed are the first
``warmup`` steps E and every ``interval``-th behind them: 0..E-1 and E-1+jN; no release computes the last step.
Reading: differences are those of whatever anchors there are, so order 2 sets in one anchor earlier than in the
release, which begins to form differences on step E-1, and is a true divided difference on uneven gaps too.
Cost of a skipped step: as ``fora`` and ``order + 1`` passes over every output, by which it measured 17 to 31 % slower
than its operations say. Memory: ``order + 1`` tensors per module (FLUX: about 2.15 GB times that; the whole of it over
50 GB there and 77 GB on HunyuanVideo, as the authors report).
Use it where memory is no matter; ``taylorseer-lite`` keeps one value for the whole stack. At long gaps it overshoots.
Defaults: interval 5, order 1, warm-up 3; per model those of the releases, where Wan 2.1 and HunyuanVideo have a
warm-up of one step (steps up to the second computed one are plain reuse) and FLUX and Qwen-Image an interval of 6.
"""

from ..core.method import Method
from ..forecasters import Taylor
from ..gates import Interval
from ..scopes import Modules
from .recipe import Recipe, Settings, protected


def build(s: Settings) -> Method:
    scope = Modules(s["attention"], s["feed_forward"])
    return Method(protected(Interval(s["interval"]), s), scope, Taylor(s["order"]), "taylorseer")


RECIPE = Recipe(
    name="taylorseer",
    summary="Computes every n-th step and continues every block's attention and feed-forward outputs by a series.",
    paper="TaylorSeer, arXiv 2503.06923, ICCV 2025",
    year=2025,
    gate="fixed interval",
    scope="attention and feed-forward modules",
    forecaster="Taylor series",
    settings={
        "interval": 5, "order": 1, "attention": True, "feed_forward": True, "warmup": 3, "last": None, "max_gap": None,
    },
    build=build,
    models={
        "wan": {"warmup": 1}, "hunyuan-video": {"warmup": 1}, "flux": {"interval": 6}, "qwen-image": {"interval": 6},
    },
)  # fmt: skip
