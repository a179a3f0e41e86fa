"""HyCa: each group of channels is continued by the ODE solver that predicts it best.

Paper: HyCa, arXiv 2510.04188, ICLR 2026. The solvers' weights (``forecasters/solvers.py``) are a third party's, which
cites the paper's appendix.
Formula: channel d of the missing value is ``F_0 + a1 k F' + a2 k^2 F''`` of the anchors' channel d, with (a1, a2) those
of its cluster's solver: Runge-Kutta 2, Adams-Bashforth 2, Taylor, BDF2, Adams-Moulton, or (ours) reuse. Learned from
one run: descriptors of how each channel moves from step to step, k-means over channels, and per cluster the solver with
the least squared error one step ahead.
Readings: the number of clusters isn't stated, two are shown (``clusters``); the descriptors' scale isn't stated, here
each is standardised over channels; the whole run is looked at, not its first steps alone; over several skipped steps
the solver takes one longer step, instead of many from its own predictions. A solver that is best one step ahead need
not be at long gaps.
Cost of a skipped step: one pass over the anchors; embedding and head (and injections, whose result is dropped).
Memory: up to three tensors per branch, as many as the solvers in use want.
Use it where channels differ: if one solver fits all of them, it is that solver. It needs a profile of the model, which
holds across inputs and numbers of steps. ``decoupled=True`` keeps injections live, and takes only a profile that was
made so.
Defaults: the two clusters that the paper shows; interval 5 is the slowest of its tables for FLUX, warm-up 3 as
``taylorseer``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..core.method import Method
from ..core.types import Gate
from ..forecasters import POOL, ByChannel, learn_channels
from ..gates import Interval
from .profiled import learned
from .recipe import Recipe, Recorder, Settings, protected, stack_scope
from .remedy import ProfileNeeded


def build(s: Settings) -> Method:
    of = learned(s, "hyca", "rule_of_channel", "the solver of each channel", (None,))
    if of.dtype is not torch.int64 or not 0 <= int(of.min()) <= int(of.max()) < len(POOL):
        raise ProfileNeeded(
            f"rule_of_channel is {of.dtype} {list(of.shape)}; wanted are whole numbers from 0 to {len(POOL) - 1}, one "
            "for each channel.",
            "hyca",
        )
    return Method(_gate(s), stack_scope(s), ByChannel(tuple(POOL.values()), of), "hyca")


def _gate(s: Settings) -> Gate:
    return protected(Interval(s["interval"]), s)


def learn(recorder: Recorder, s: Settings) -> Mapping[str, Tensor]:
    """``rule_of_channel``: [D] int64, indices into ``POOL``."""
    features = recorder.record(stack_scope(s)).features
    return {"rule_of_channel": learn_channels(torch.cat(list(features.values()), dim=1), clusters=s["clusters"])}


RECIPE = Recipe(
    name="hyca",
    summary="Computes every n-th step and continues each group of channels by the solver that suits it.",
    paper="HyCa, arXiv 2510.04188, ICLR 2026",
    year=2026,
    gate="fixed interval",
    scope="whole stack",
    forecaster="by channel: solvers of a pool",
    settings={
        "interval": 5, "clusters": 2, "warmup": 3, "last": None, "max_gap": None, "decoupled": False, "profile": None,
    },
    build=build,
    needs="a profile of the model",
    learn=learn,
    shapes=("decoupled", "clusters"),
    alone={"gate": _gate, "scope": stack_scope},
)  # fmt: skip
