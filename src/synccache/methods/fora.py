"""FORA: attention and feed-forward outputs kept for some steps.

Paper: FORA, arXiv 2407.01425, 2024.
Formula: on every ``interval``-th step each block computes its attention and feed-forward modules and keeps what they
give; on the steps between, the block runs with these outputs in their place. Norms, the timestep's gates and the sums
around them are this step's own.
Reading: the release counts steps from the end, so that the last one is computed and the gap behind the first may be
shorter; here they are counted from the first, and ``last=1`` adds the last one: as many steps in all.
Cost of a skipped step: norms, gates and sums of every block, and all that lies outside the blocks. Memory: one tensor
per module and branch, two or three for each block: about 2.15 GB on FLUX at 1024 × 1024, more on video.
Use it as the baseline at the level of modules. ``interval`` does the same for the price of one tensor. Attention that
a block writes into its own forward isn't found, and a block's own audio or text attention is stale.
Single blocks of FLUX and HunyuanVideo, where attention and MLP end in one projection, hold one tensor each.
Defaults: the release's interval of 3, and the last step, which the release computes by counting from the end.
"""

from ..core.method import Method
from ..forecasters import Reuse
from ..gates import Interval
from ..scopes import Modules
from .recipe import Recipe, Settings, protected


def build(s: Settings) -> Method:
    scope = Modules(s["attention"], s["feed_forward"])
    return Method(protected(Interval(s["interval"]), s), scope, Reuse(), "fora")


RECIPE = Recipe(
    name="fora",
    summary="Computes every n-th step and reuses the attention and feed-forward outputs of every block in between.",
    paper="FORA, arXiv 2407.01425",
    year=2024,
    gate="fixed interval",
    scope="attention and feed-forward modules",
    forecaster="reuse",
    settings={
        "interval": 3, "attention": True, "feed_forward": True, "warmup": None, "last": 1, "max_gap": None,
    },
    build=build,
)  # fmt: skip
