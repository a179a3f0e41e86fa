"""The model's whole output continued in a straight line, from the steps that a search finds best for that. Ours.

Formula: between computed steps the output of the transformer is the line through the last two (``order`` 0: the last
one). The ``computed_steps`` steps are a shortest path over steps: one profiled run gives the inner products of its
outputs, and with them the error of every gap for every pair of anchors before it (``gates/schedules.py``).
Cost of a skipped step: none but one pass over the anchors. Memory: ``order + 1`` outputs per branch.
Use it where every step hears the same speech and sees the same text, and every video is made with one scheduler and
number of steps. It can't see content: a video that is harder than the profiled one gets no more steps. Not where
conditioning changes from step to step: nothing of the model runs, so audio, text and masks are as stale as the picture
(``synccache-cfg`` keeps them live).
Reading: errors of all steps count alike (weighted by the length of the sampler's steps, as ``schedule`` does with
features of blocks, the lists gave less on four clips of the training side). The line goes its whole way on any gap: a
search that knows the forecaster leaves no gap on which that hurts.
Defaults: ten steps, at about four times the speed; a line, since the portrait model's sampler is of second order.
"""

from __future__ import annotations

from ..core.method import Method
from ..scopes import WholeModel
from .profiled import best_listed, learn_outputs, learned, line_or_reuse
from .recipe import Recipe, Settings, protected


def build(s: Settings) -> Method:
    forecaster = line_or_reuse(s["order"])
    gram = learned(s, "searched", "gram", "the inner products of the outputs")
    gate = best_listed(s, "searched", forecaster, gram, skipped_cost=0.0)
    return Method(protected(gate, s), WholeModel(), forecaster, "searched")


RECIPE = Recipe(
    name="searched",
    summary="Skips the whole model on all steps but those that a search finds best, and extrapolates its output.",
    paper="ours",
    gate="list of steps, searched for",
    scope="whole model",
    forecaster="linear",
    settings={
        "computed_steps": 10, "order": 1, "warmup": None, "last": None, "max_gap": None, "profile": None,
    },
    build=build,
    needs="a profile of the same model, scheduler and number of steps",
    learn=learn_outputs,
    alone={"scope": lambda s: WholeModel(), "forecaster": lambda s: line_or_reuse(s["order"])},
)  # fmt: skip
