"""Compute every n-th step, reuse in between: FORA's idea at the level of the whole stack.

Paper: FORA, arXiv 2407.01425 (there per attention and MLP output).
Formula: computed when ``interval`` steps have passed since the last computed one.
Cost of a skipped step: embedding, head and injections only (no probe). Memory: one tensor per branch.
Unlike ``fora`` it computes the first tenth of the steps; ``warmup=0`` has it compute just the same ones.
Use it as the simplest baseline, and where speed must not depend on content. ``decoupled=True`` keeps injections live.
Defaults: FORA's interval of 3; a tenth of the run as warm-up, and the last step, are ours.
"""

from ..core.method import Method
from ..forecasters import Reuse
from ..gates import Interval
from ..scopes import Segments, WholeStack
from .recipe import Recipe, Settings, protected


def build(s: Settings) -> Method:
    scope = Segments() if s["decoupled"] else WholeStack(absorb=True)
    return Method(protected(Interval(s["interval"]), s), scope, Reuse(), "interval")


RECIPE = Recipe(
    name="interval",
    summary="Computes every n-th step and reuses the whole stack's residual in between.",
    paper="FORA, arXiv 2407.01425",
    year=2024,
    gate="fixed interval",
    scope="whole stack",
    forecaster="reuse",
    settings={"interval": 3, "decoupled": False, "warmup": 0.1, "last": 1, "max_gap": None},
    build=build,
)
