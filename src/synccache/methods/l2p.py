"""L2P: the model's output as a learned linear combination of all its earlier outputs.

Paper: L2P, arXiv 2604.26365, CVPR 2026 (formula and schedules read in its release).
Formula: ``F_t = sum_{s < t} W[t, s] F_s`` over every earlier step, predictions included; F is what the model returns, W
one row a step for all tokens and channels. The paper trains W by Adam on 50 trajectories, from earlier steps as they
were; here each row is the least squares of the same error on one profiled run, pulled slightly towards reuse
(``learn_rows``).
Computed: the release's steps for ``interval`` 5, 6, 7, 8, 10 or 16 of 50, scaled to other lengths; for other intervals
the first three and every ``interval``-th after them; or ``schedule``.
Cost of a skipped step: none of the model runs, one pass over the stored outputs. Memory: one output, as large as the
latent, per computed step and branch. Conditioning is stale on skipped steps, as part of an extrapolated output.
Use it where a profile of just this model, scheduler and number of steps can be made: rows for another number of steps,
or for other timesteps, are refused.
Defaults: interval 5, the slowest in the paper's tables, with the release's steps; the last step is not computed there.
"""

from __future__ import annotations

from torch import Tensor

from ..core.method import Method
from ..forecasters import Rows, learn_rows
from ..scopes import WholeModel
from .profiled import learned, output_products
from .profiled_gates import ListedFor
from .recipe import Recipe, Recorder, Settings, protected

RELEASED = {  # computed steps of 50
    5: (0, 1, 2, 4, 6, 9, 14, 23, 30, 37, 44),
    6: (0, 1, 2, 4, 7, 14, 23, 31, 38, 45),
    7: (0, 1, 2, 4, 9, 17, 26, 35, 43),
    8: (0, 1, 2, 4, 10, 20, 31, 41),
    10: (0, 1, 2, 4, 12, 24, 38),
    16: (0, 1, 2, 4, 16, 32),
}


def build(s: Settings) -> Method:
    rows = learned(
        s, "l2p", "rows", "the weights of earlier outputs, learnt for a model, scheduler and number of steps"
    )
    schedule = s["schedule"] if s["schedule"] is not None else steps_to_compute(s["interval"], len(rows))
    gate = ListedFor(frozenset(schedule), steps=len(rows), method="l2p", timesteps=s["profile"].timesteps)
    return Method(protected(gate, s), WholeModel(), Rows(rows), "l2p")


def steps_to_compute(interval: int, total: int) -> tuple[int, ...]:
    """The steps that are computed of ``total``."""
    if interval not in RELEASED:
        return tuple(sorted({*range(min(3, total)), *range(2, total, interval)}))
    return tuple(sorted({round(step * (total - 1) / 49) for step in RELEASED[interval]}))


def learn(recorder: Recorder, s: Settings) -> dict[str, Tensor]:
    """``rows``: [T, T] float64, the weights of the earlier outputs for each step."""
    return {"rows": learn_rows(output_products(recorder))}


RECIPE = Recipe(
    name="l2p",
    summary="Predicts the model's output as a learned combination of all earlier outputs; skips the whole model.",
    paper="L2P, arXiv 2604.26365, CVPR 2026",
    year=2026,
    gate="list of steps",
    scope="whole model",
    forecaster="learned rows",
    settings={"interval": 5, "schedule": None, "warmup": None, "last": None, "max_gap": None, "profile": None},
    build=build,
    needs="a profile of the same model, scheduler and number of steps",
    learn=learn,
    alone={"scope": lambda s: WholeModel()},
)
