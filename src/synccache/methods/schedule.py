"""Compute the steps on a list: for planned schedules, and for comparing forecasters on equal terms.

Formula: steps in ``schedule`` are computed, all others filled in by a Lagrange forecast of order ``order`` (0: reuse),
contracted by ``contraction``.
Cost of a skipped step: embedding, head and injections (no probe). Memory: ``order + 1`` tensors per segment and branch.
Use it with a list that was searched for on your model; a list fits one scheduler and number of steps.
"""

from ..engine.method import Method
from ..errors import InputError
from ..forecasters import Lagrange, Reuse
from ..gates import Listed
from .probing import SEGMENTED, segment_scope
from .recipe import Recipe, Settings, protected


def build(s: Settings) -> Method:
    if not s["schedule"]:
        raise InputError("The method 'schedule' needs schedule=[0, 1, 4, ...], the indices of the steps to compute.")
    forecaster = Lagrange(s["order"], s["contraction"]) if s["order"] else Reuse()
    return Method(protected(Listed(frozenset(s["schedule"])), s), segment_scope(s), forecaster, "schedule")


RECIPE = Recipe(
    name="schedule",
    summary="Computes the listed steps; the others are reused or extrapolated.",
    paper="common practice",
    gate="list of steps",
    scope="segments between injection sites",
    forecaster="reuse or Lagrange",
    settings={
        "schedule": None, "order": 0, "contraction": 1.0, "warmup": None, "last": None, "max_gap": None,
        **SEGMENTED, "cache_ratio": 1.0,
    },
    build=build,
    needs="a list of steps",
)  # fmt: skip
