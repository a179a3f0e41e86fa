"""DBCache: the first blocks decide as in ``first-block``, the last ones always run.

Source: cache-dit (github.com/vipshop/cache-dit), 2025, no paper.
Formula: the first ``front`` blocks run; ``e = mean|q - q_c| / mean|q_c|``, q what they add, q_c what they added on the
last computed step. Up to ``threshold`` the blocks in the middle are filled in: their residual is reused (``order=0``)
or continued by a Taylor series (``order=1`` is its DBCache with TaylorSeer); the last ``back`` blocks run on that.
Cost of a skipped step: ``front + back`` blocks, and injections, whose result is dropped. Memory: ``order + 1`` tensors
per stream and branch, and one for the gate.
Use it on deep models, where a few blocks at both ends cost little and keep detail; with ``front=1``, ``back=0`` it is
``first-block``. Conditioning between the middle blocks is stale on skipped steps, unless ``decoupled=True``.
Caps: ``max_skips`` bounds the skips of a run; ``max_gap=n`` lets at most n - 1 follow each other (there: n - 1 cached
steps in a row).
Reading: with guidance in two calls cache-dit lets each branch decide for itself; here one decision serves all,
``branches="separate"`` is as there. Its bound on the summed difference and its step masks are left out.
Defaults: cache-dit's (8 in front, none behind, 8 steps of warm-up, 0.08, no caps). A model needs more blocks than
``front + back``; the built-in portrait model takes 1 in front of its 17.
"""

from ..core.method import Method
from ..forecasters import Reuse, Taylor
from ..gates import FirstBlock, MaxSkips
from ..scopes import WholeStack
from .recipe import Recipe, Settings, protected


def build(s: Settings) -> Method:
    gate = FirstBlock(s["threshold"], s["front"])
    capped = MaxSkips(gate, s["max_skips"]) if s["max_skips"] else gate
    scope = WholeStack(absorb=not s["decoupled"], keep_last=s["back"])
    return Method(protected(capped, s), scope, Taylor(s["order"]) if s["order"] else Reuse(), "dbcache")


RECIPE = Recipe(
    name="dbcache",
    summary="Runs the first n and last m blocks and fills in those between while the first ones' residual stays.",
    paper="cache-dit's DBCache (no paper)",
    year=2025,
    gate="first blocks' residual against that of the last computed step",
    scope="whole stack but for its last blocks",
    forecaster="reuse, or a Taylor series",
    settings={
        "threshold": 0.08, "front": 8, "back": 0, "order": 0, "decoupled": False, "warmup": 8, "last": None,
        "max_skips": None, "max_gap": None,
    },
    build=build,
    models={"portrait": {"front": 1}},
)  # fmt: skip
