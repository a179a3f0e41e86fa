"""EasyCache: the model's whole output reused, on the latent's own evidence.

Paper: EasyCache, arXiv 2507.02860.
Formula: ``k = |v_0 - v_1| / |x_0 - x_1|`` from latents x and outputs v of the last two computed steps (|.|: mean
absolute value); ``e = k |x - x_before| / |v_0|`` is added up; up to ``threshold`` the model isn't run and gives
``x + (v_0 - x_0)``.
Cost of a skipped step: none. Memory: a latent per branch, and five for the gate.
Use it for text-to-video, where it is the cheapest there is. Not where something else than the latent changes from step
to step, and with care for speech: nothing of the model runs, so audio, text and masks are as stale as the picture.
Limits: the difference needs an output of the latent's shape. Where more channels go in than come out (image-to-video
with the picture as further channels), or tensors of other number (LTX-2's audio), take ``residual=False``, which reuses
v_0 itself; the error then counts those channels too. With latents in a list the first one decides.
Reading: in a batch the worst sample decides, where the release takes one mean over it (see ``gates/output_change.py``).
Computed: with ``computed_steps=N`` exactly N steps of every run, spread evenly, whatever is measured.
Defaults: 0.05 and 10 of 50 steps of warm-up, the release's for Wan; 0.025 and 5 for HunyuanVideo; the last step is
computed. One decision serves all guidance branches, as in the release. On the built-in portrait model 0.036, which
computes 12 of 40 steps of a clip from the training side.
"""

from ..core.method import Method
from ..forecasters import Reuse
from ..gates import OutputChange
from ..scopes import WholeModel
from .measuring import SUMMED, summing_gate
from .recipe import Recipe, Settings


def build(s: Settings) -> Method:
    return Method(summing_gate(s, OutputChange()), WholeModel(residual=s["residual"]), Reuse(), "easycache")


RECIPE = Recipe(
    name="easycache",
    summary="Leaves out the whole model while the latent's change says that the output hardly changes.",
    paper="EasyCache, arXiv 2507.02860",
    year=2025,
    gate="output's change told from the latent's, accumulated",
    scope="whole model",
    forecaster="reuse",
    settings={**SUMMED, "threshold": 0.05, "residual": True, "warmup": 0.2, "last": 1},
    build=build,
    models={
        "wan": {"warmup": 10}, "hunyuan-video": {"threshold": 0.025, "warmup": 5}, "portrait": {"threshold": 0.036},
        "wan-animate": {"residual": False}, "ltx-2": {"residual": False},
    },
)  # fmt: skip
