"""FreqCa: slow waves over the picture are reused, fast ones continued.

Paper: FreqCa, arXiv 2510.08669, NeurIPS 2026 (formulas read in its release).
Formula: ``F = F_high + P (F_low - F_high)``, P the lowest frequencies of each frame's token grid (2-D DCT; along the
tokens by FFT where the grid isn't known), F_low the newest anchor, F_high a Hermite series of order 2 at sigma 0.71,
which is a Taylor series but for one part in a hundred (``forecasters/low_pass.py``).
Computed: the first ``warmup`` steps and every ``interval``-th after them.
Readings: the release caches the tokens before the final layer, here it is what the blocks added to their input, so that
the embedding of this step's latent stays live; it splits at the anchors and holds each band's differences (6 tensors),
here the sum over raw anchors is split, on skipped steps; its DCT wants square pictures, and for those it is the same.
For Qwen-Image the release takes an FFT over the tokens, here it is the DCT wherever the grid is known; and it knows
pictures only, so that a DCT of each frame by itself is a reading for video.
Its look-ahead blend, off by default, is left out.
Cost of a skipped step: two passes over the anchors and two thin matrix products; embedding and head (and injections,
whose result is dropped). Memory: three tensors per branch.
Defaults: the release's interval, sigma and order.
Use it at long gaps on pictures whose layout stands early. ``keep=0`` is Hermite alone, ``keep=1`` reuse; what isn't
video in the stream (reference, motion, text tokens) goes with the fast waves. ``decoupled=True`` keeps injections live.
"""

from ..core.method import Method
from ..forecasters import ByFrequency, Hermite, LowPass, Reuse
from ..gates import Interval
from .recipe import Recipe, Settings, protected, stack_scope


def build(s: Settings) -> Method:
    forecaster = ByFrequency(Reuse(), Hermite(s["order"], s["sigma"]), LowPass(s["keep"]))
    return Method(protected(Interval(s["interval"]), s), stack_scope(s), forecaster, "freqca")


RECIPE = Recipe(
    name="freqca",
    summary="Computes every n-th step; in between the low spatial frequencies are reused, the high ones continued.",
    paper="FreqCa, arXiv 2510.08669, NeurIPS 2026",
    year=2026,
    gate="fixed interval",
    scope="whole stack",
    forecaster="by frequency: reuse, Hermite series",
    settings={
        "interval": 6, "keep": 0.1, "order": 2, "sigma": 0.71, "warmup": 3, "last": None, "max_gap": None,
        "decoupled": False,
    },
    build=build,
)  # fmt: skip
