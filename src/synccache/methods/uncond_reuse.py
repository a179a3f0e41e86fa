"""The unconditional branch reused: a skipped step runs the conditional one alone. FasterCache's idea.

Paper: FasterCache, arXiv 2410.19355, ICLR 2025 (its CFG-Cache, which is one half of it).
Formula: on a computed step each other guidance branch stores by how much its output differs from the conditional
one's, ``d = F_u - F_c``; on the steps between, its transformer isn't called and ``F_u = F_c + d``, F_c of this step.
Reading: the paper keeps low and high frequencies of d apart and raises the one in early, the other in late steps by a
factor (1.1 in diffusers); here d is reused as it is.
Cost of a skipped step: the conditional branch in full, so at most half of the time is saved. Memory: two outputs of
the model (the size of a latent).
Use it with guidance in two calls a step, where nothing of the conditional branch may be stale, as with speech. With
both branches in one batch, or without guidance, there is nothing to leave out. ``synccache-cfg`` joins it with more.
Defaults: interval 5, and no reuse in the first third of the run, as in diffusers' form of it (timesteps over 641).
"""

from ..core.method import Method
from ..forecasters import Reuse
from ..gates import Interval
from ..scopes import Nothing
from .recipe import Recipe, Settings, protected


def build(s: Settings) -> Method:
    return Method(protected(Interval(s["interval"]), s), Nothing(), Reuse(), "uncond-reuse", guidance=Reuse())


RECIPE = Recipe(
    name="uncond-reuse",
    summary="Runs the conditional branch on every step and the other guidance branches on every n-th only.",
    paper="FasterCache, arXiv 2410.19355, ICLR 2025",
    year=2025,
    gate="fixed interval",
    scope="output of the other guidance branches",
    forecaster="reuse",
    settings={"interval": 5, "warmup": 0.33, "last": 1, "max_gap": None},
    build=build,
    needs="guidance in two calls a step",
)
