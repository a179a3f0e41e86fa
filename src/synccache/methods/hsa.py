"""HSA: calm tokens take fewer steps than lively ones, and move by their last velocity in between.

Paper: HSA (Heterogeneous Step Allocation), arXiv 2605.06892.
Formula: K groups of video tokens; step i computes the union of the groups whose divisor divides i. A computed token's
query attends to all tokens' keys and values, those of the others as they were when these were computed last. The
model's output for a token that isn't computed is the one it had then, so with Euler it makes one move over the gap.
Groups: by the relative L1 change of each token's predicted velocity over the first, full steps, for each sample.
``budget=`` is the wanted cost, a part of the full run's in tokens of blocks; group k's share of the tokens is
proportional to q^k, and q follows by bisection. ``trace.cost()`` says what was computed.
Computed in full: the first eighth of the steps (at least 2), the last one, and those on which all groups fall together.
Between the blocks all rows flow: those of tokens that aren't computed get what their segment last added, so that audio
modules stay live and see whole frames.
Cost of a step: blocks in proportion to its active tokens, all of the rest (embedding, audio modules, head).
Memory: a key and a value of each block, which on Wan2.1 at 480p are 5.6 GiB (1.3B) or 25 GiB (14B) for each guidance
branch in half precision; besides a residual of each segment, and the output. ``limit=`` bounds the bytes, by default by
what is free: what wouldn't fit is refused before anything is kept. ``storage_device="cpu"`` moves all of it every step.
Use it for research, beside fewer plain steps at the same cost, which are hard to beat (see ``hsa-line``).
Not for few-step models: the full steps at the ends leave nothing to save.
Reading: neither code nor hyperparameters are public; divisors, shares, the first and last full steps are ours. The
paper is about Euler. A multistep solver is given the held velocity as the model's output for that token: its history
then repeats, and its higher orders fall to Euler's there. Solvers that add noise move held tokens by that noise, too.
Limits: diffusers' Wan (text- and image-to-video, not VACE) and the built-in portrait model; attention by torch's
``scaled_dot_product_attention``; blocks that aren't compiled; outputs as tensors (``return_dict=False``).
"""

from ..core.method import Method
from ..core.types import Forecaster
from ..errors import InputError
from ..forecasters import Reuse
from ..gates import Allocation
from ..scopes import Segments, Tokens
from .recipe import Recipe, Settings

ALLOCATED = {"budget": 0.5, "divisors": (1, 4, 20), "warmup": 0.125, "last": 1, "limit": None}


def allocated(s: Settings, forecaster: Forecaster, name: str) -> Method:
    """Groups by measured change; one group computes everything, and stores nothing."""
    if s.get("speed") is not None:
        raise InputError(f"{name!r} goes by budget=, the part of a full run that is computed: give that, not speed.")
    divisors = tuple(s["divisors"])
    gate = Allocation(s["budget"], divisors, s["warmup"] or 0, s["last"] or 0)
    scope = Segments() if len(divisors) == 1 else Tokens(Segments(), s["limit"])
    return Method(gate, scope, forecaster, name)


def build(s: Settings) -> Method:
    return allocated(s, Reuse(), "hsa")


RECIPE = Recipe(
    name="hsa",
    summary="Computes lively tokens on every step and calm ones now and then, against stored keys and values.",
    paper="HSA (Heterogeneous Step Allocation), arXiv 2605.06892",
    year=2026,
    gate="token groups by measured change",
    scope="segments, token by token",
    forecaster="reuse",
    settings=ALLOCATED,
    build=build,
)
