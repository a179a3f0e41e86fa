"""Whole-stack reuse: one residual for everything after the probe, as most published caches have it.

Papers: first-block cache (ParaAttention, 2024), TeaCache (arXiv 2411.19108), DiCache (arXiv 2508.17356) share this
scope; here with the accumulated first-block probe, so that with ``mask_weight=2`` and one threshold it differs from
``synccache`` in the scope alone.
Formula: ``h_L = h_0 + R``, R = last output minus first input of the newest computed step: what was injected between the
blocks is part of R and stale. ``decoupled=True`` stores the sum of the blocks' residuals and keeps injections live.
Cost of a skipped step: one block (and injections, whose result is dropped). Memory: one tensor per branch, one probe.
Use it as the control for decoupling, and on models without injection.
Defaults: ``synccache``'s for models at large, with all tokens alike (``mask_weight`` 1). Limit: stale conditioning
wherever something is injected.
"""

from ..core.method import Method
from ..forecasters import Reuse
from .probing import PROBED, learn_segments, probing_gate
from .recipe import Recipe, Settings, stack_scope


def build(s: Settings) -> Method:
    return Method(probing_gate(s), stack_scope(s), Reuse(), "whole-stack")


RECIPE = Recipe(
    name="whole-stack",
    summary="Reuses one residual of everything after the first block, conditioning included, as published caches do.",
    paper="common to first-block cache, TeaCache and DiCache",
    year=2024,
    gate="probe, accumulated",
    scope="whole stack",
    forecaster="reuse",
    settings={**PROBED, "mask_weight": 1.0, "decoupled": False, "plan": None},
    build=build,
    learn=learn_segments,
)
