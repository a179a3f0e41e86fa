"""First-Block Cache: the first block runs, and if its residual is still the one of the last computed step, it decides.

Source: ParaAttention (github.com/chengzeyi/ParaAttention), 2024, no paper; also in diffusers, whose form this is.
Formula: ``e = mean|q - q_c| / mean|q_c|``, q the first block's residual, q_c that of the last computed step; not added
up. Over ``threshold`` the step is computed, else the other blocks' residual is reused.
Cost of a skipped step: one block, and injections, whose result is dropped. Memory: one tensor per stream and branch,
and one for the gate.
Use it where one number must do: no warm-up, nothing to fit, any length of run. Quantised weights shift the threshold.
Not where conditioning enters between the blocks (speech): it is stale on skipped steps, unless ``decoupled=True``.
Reading: diffusers lets each guidance branch decide for itself; here one decision serves all, ``branches="separate"``
is as there. Only the main stream decides, as there.
Defaults: 0.05 as in diffusers, ParaAttention's 0.06 for HunyuanVideo and 0.08 for FLUX; no warm-up, no last step.
"""

from ..core.method import Method
from ..forecasters import Reuse
from ..gates import FirstBlock
from .recipe import Recipe, Settings, protected, stack_scope


def build(s: Settings) -> Method:
    gate = protected(FirstBlock(s["threshold"]), s)
    return Method(gate, stack_scope(s), Reuse(), "first-block")


RECIPE = Recipe(
    name="first-block",
    summary="Runs the first block and reuses the others' residual while the first one's is that of the last computed.",
    paper="ParaAttention's First-Block Cache (no paper)",
    year=2024,
    gate="first block's residual against that of the last computed step",
    scope="whole stack",
    forecaster="reuse",
    settings={"threshold": 0.05, "decoupled": False, "warmup": None, "last": None, "max_gap": None},
    build=build,
    models={"hunyuan-video": {"threshold": 0.06}, "flux": {"threshold": 0.08}},
)
