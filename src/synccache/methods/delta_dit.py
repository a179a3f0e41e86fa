"""Δ-DiT: the rear blocks are left out in the first part of a run, the front blocks in the second.

Paper: Δ-DiT, arXiv 2406.01125, 2024.
Formula: over a span of blocks ``Δ = h_out - h_in``; every ``interval``-th step is computed and stores it, and on the
others ``h_out = h_in + Δ``, for the rear span before step b (``turn``), for the front span from there on.
Reading: only the abstract and third-party accounts were to be had. The spans' size isn't in them; ``share`` of 3/4
with an interval of 2 is what makes the published 1.6 times (1 / (1 - 3/4 · 1/2)), and b is half of the run.
Cost of a skipped step: the blocks outside the span, a quarter of them. Memory: one tensor per stream and branch for
each span, and one more where they overlap. Blocks that run on a skipped step are stored too, at one more pass over
their input and output.
Use it as the baseline that leaves out part of the stack. Its speed-up ends at 1 / (1 - share), and what comes behind a
stale front span runs on a stale input.
Defaults: interval, share and turn as read above; no warm-up and no last step, of which nothing is known.
"""

from ..core.method import Method
from ..forecasters import Reuse
from ..gates import Turn
from ..scopes import Spans
from .recipe import Recipe, Settings, protected


def build(s: Settings) -> Method:
    gate = protected(Turn(s["interval"], s["turn"]), s)
    return Method(gate, Spans(s["share"]), Reuse(), "delta-dit")


RECIPE = Recipe(
    name="delta-dit",
    summary="Leaves out the rear blocks in the first part of a run and the front blocks in the second.",
    paper="Δ-DiT, arXiv 2406.01125",
    year=2024,
    gate="fixed interval, with a turn from the rear to the front",
    scope="front and rear spans of blocks",
    forecaster="reuse",
    settings={"interval": 2, "turn": 0.5, "share": 0.75, "warmup": None, "last": None, "max_gap": None},
    build=build,
)
