"""HSA with a line: between their steps, calm tokens' velocity and keys and values go on as they changed before.

Paper: ours; token groups as in HSA, arXiv 2605.06892.
Formula: as ``hsa``, with ``v_0 + c (t - t_0) / (t_0 - t_1) (v_0 - v_1)`` in place of a token's last velocity v_0, where
t_0 and t_1 are the last two steps that it was computed on and c = ``contraction``; in the same way each key, each value
and what a segment has added.
Cost of a step: as ``hsa``, and one pass over the stored keys and values. Memory: twice that of ``hsa``.
Use it for research, beside ``hsa`` and fewer plain steps at the same cost.
Not under strong guidance with gaps of many steps, where the line overshoots: lower ``contraction``. On the built-in
portrait model (guidance, UniPC) it was mostly worse than ``hsa``, and both were worse than fewer plain steps.
Defaults: as ``hsa``, so that the two differ by the forecast alone; the line goes its whole way.
"""

from ..core.method import Method
from ..forecasters import Lagrange
from .hsa import ALLOCATED, allocated
from .recipe import Recipe, Settings


def build(s: Settings) -> Method:
    return allocated(s, Lagrange(1, s["contraction"]), "hsa-line")


RECIPE = Recipe(
    name="hsa-line",
    summary="As hsa, with velocities, keys and values of calm tokens extrapolated linearly.",
    paper="ours",
    gate="token groups by measured change",
    scope="segments, token by token",
    forecaster="linear",
    settings={**ALLOCATED, "contraction": 1.0},
    build=build,
)
