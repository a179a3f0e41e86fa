"""DiCache: the first block tells when to skip, and how far along the cached residuals' path this step is.

Paper: DiCache, arXiv 2508.17356, ICLR 2026.
Formula: ``e = mean|y - y_before| / mean|y_before|``, y the tokens after the first ``probe`` blocks, is added up; over
``threshold`` the step is computed and the sum starts again. Else ``R = R_1 + gamma (R_0 - R_1)`` with
``gamma = clip(mean|q - q_1| / mean|q_0 - q_1|, 1, upper)``: q is what the probe blocks add, R what the others add, 0
and 1 the last two computed steps.
Cost of a skipped step: the probe, and injections, whose result is dropped. Memory: two tensors per stream and branch,
three for the gate.
Use it where extrapolating by steps overshoots: gamma follows the content, and at 1 it is reuse. Not where conditioning
enters between the blocks (speech): it is stale on skipped steps, unless ``decoupled=True``.
Reading: the release adds the residual of the whole stack to the embedding, here the residual behind the probe is added
to this step's probe, which has run anyway. It lets Wan's two guidance branches decide and align each for itself, which
is ``branches="separate"``; with shared decisions the others follow the deciding one in both.
Computed: with ``computed_steps=N`` exactly N steps of every run, spread evenly, whatever is measured.
Defaults: those of the release; 0.08 for Wan, 0.1 for HunyuanVideo, 0.4 for FLUX (the only one whose last step is
computed), a fifth of the run as warm-up: ``round(0.2 T)`` steps, where the releases compute while ``i < 0.2 T`` (FLUX:
``<=``), which can be a step more. For other models the authors scan 0.1 to 0.5.
"""

from ..core.method import Method
from ..forecasters import Alignment
from ..gates import Trajectory
from .measuring import SUMMED, summing_gate
from .recipe import Recipe, Settings, stack_scope


def build(s: Settings) -> Method:
    gate = summing_gate(s, Trajectory(blocks=s["probe"]))
    return Method(gate, stack_scope(s), Alignment(s["upper"]), "dicache")


RECIPE = Recipe(
    name="dicache",
    summary="Skips while the first block's output moves little, and moves the cached residual as far as it went.",
    paper="DiCache, arXiv 2508.17356, ICLR 2026",
    year=2026,
    gate="probe, accumulated",
    scope="whole stack",
    forecaster="alignment with the probe's trajectory",
    settings={**SUMMED, "threshold": 0.1, "probe": 1, "upper": 1.5, "decoupled": False, "warmup": 0.2},
    build=build,
    models={"wan": {"threshold": 0.08, "upper": 2.0}, "flux": {"threshold": 0.4, "last": 1}},
)
