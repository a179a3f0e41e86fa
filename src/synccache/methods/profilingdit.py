"""ProfilingDiT: blocks whose attention is for the background are left out, the others always run.

Paper: ProfilingDiT, arXiv 2504.03140, ICCV 2025.
Formula: a block's score is the part of the person's tokens that its attention favours (``planner/attention.py``);
blocks of low score are background blocks. Each maximal run a..b of them stores ``Δ = h_b - h_(a-1)`` when computed and
adds it to its input on the other steps. Computed are the first 12 % of the steps (6 of 50) and the steps ``refresh``
of a run of 50, scaled to this run's length; their gaps shrink.
Block lists: published ones for HunyuanVideo and Wan 2.1 14B are taken where the model has as many blocks. For others
give ``blocks=[...]``, or a profile that was learnt on the model with a person mask (``synccache.learn_profile``).
Reading: the threshold on the score wasn't published; learning takes the ``share`` of all blocks with the lowest scores,
the published lists have 24 of 40 and 28 of 40. On HunyuanVideo the double blocks 6 to 19 share one Δ there, refreshed
every 6 steps; here they keep to the same steps as the single blocks, as many in number. The paper's mask is a
segmentation of the predicted noise, ours is the user's.
Cost of a skipped step: all blocks that are not on the list, so never under 1 - share. Memory: one tensor per run of
blocks, stream and branch (nine on HunyuanVideo, five on Wan).
Use it where quality counts more than speed: 2.0 times on Wan and 1.9 times on HunyuanVideo are the paper's figures.
Defaults: share 0.6 and ``refresh`` are those of the release's for HunyuanVideo; for Wan every sixth step.
"""

from collections.abc import Mapping

from torch import Tensor

from ..core.method import Method
from ..core.types import Gate
from ..errors import InputError
from ..forecasters import Reuse
from ..gates import Refresh
from ..scopes import BlockRuns
from .recipe import Recipe, Recorder, Settings, protected
from .remedy import ProfileNeeded

_WAN = (0, *range(2, 8), *range(10, 21), *range(25, 33), 37, 38)
_HUNYUAN_SINGLE = (0, 2, *range(4, 8), *range(10, 22), 23, *range(25, 28), 31, 33)
_HUNYUAN = (*range(6, 20), *(20 + i for i in _HUNYUAN_SINGLE))  # double blocks come first, 20 of them
PUBLISHED = {"wan2.1-14b": BlockRuns(_WAN, of=40), "hunyuan-video": BlockRuns(_HUNYUAN, of=60)}


def build(s: Settings) -> Method:
    return Method(_gate(s), _runs(s), Reuse(), "profilingdit")


def _gate(s: Settings) -> Gate:
    return protected(Refresh(tuple(sorted(s["refresh"]))), s)


def _runs(s: Settings) -> BlockRuns:
    """A profile of the user's goes before a list, and that before a profile that is shipped."""
    blocks, profile = s["blocks"], s["profile"]
    if profile is None and blocks is not None and not isinstance(blocks, str):
        return BlockRuns(tuple(sorted(blocks)))
    if profile is not None:
        return BlockRuns(tuple(int(i) for i in profile.tensor("blocks", (None,))))
    if blocks is None:
        raise ProfileNeeded(
            "The method 'profilingdit' has no list of background blocks for this model. Give blocks=[...], or a "
            "profile that was learnt with a person mask.",
            "profilingdit",
        )
    if blocks not in PUBLISHED:
        raise InputError(f"No list of blocks was published as {blocks!r}. There are: {', '.join(PUBLISHED)}.")
    return PUBLISHED[blocks]


def learn(recorder: Recorder, s: Settings) -> Mapping[str, Tensor]:
    """``blocks`` (int64, ascending) and the ``scores`` of all blocks (float32)."""
    return recorder.background(s["share"])


RECIPE = Recipe(
    name="profilingdit",
    summary="Leaves out the blocks that attend to the background, and refreshes them at shrinking gaps.",
    paper="ProfilingDiT, arXiv 2504.03140, ICCV 2025",
    year=2025,
    gate="listed steps, at shrinking gaps",
    scope="runs of background blocks",
    forecaster="reuse",
    settings={
        "blocks": None, "profile": None, "share": 0.6, "refresh": [6, 18, 26, 32, 38, 42, 46, 48],
        "warmup": 0.12, "last": None, "max_gap": None,
    },
    build=build,
    models={
        "wan": {"blocks": "wan2.1-14b", "refresh": list(range(6, 50, 6))}, "hunyuan-video": {"blocks": "hunyuan-video"},
    },
    needs="a list of background blocks: published for Wan 2.1 14B and HunyuanVideo, else a profile",
    learn=learn,
    shapes=("share",),
    alone={"gate": _gate, "forecaster": lambda s: Reuse()},
)  # fmt: skip
