"""What a user is told where less can be left out than was hoped, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping

WINDOWS = (
    "The model is called several times at one step with latents of their own: windows of a longer video, tiles, or "
    "several generations at once. What one of them stores is of no use to another, so every step of this run is "
    "computed. Tell them apart to have them cached: with handle.at(window=...), or handle.request(...) for generations."
)
LENGTH = (
    "{!r} protects the last steps of a run, and nobody tells how many steps this run will have. Pass steps= to apply, "
    "or tell it with handle.at(total=...), or with synccache run --steps; apply the method to the pipeline, and its "
    "scheduler tells."
)
IDLE = (
    "{!r} leaves out other guidance branches only, and no step has called the model for one: there is no guidance, or "
    "both branches come in one batch. So every step is computed in full."
)
ORDER = (
    "Other guidance branches are told from the conditional one, and here it doesn't come first, or nothing tells which "
    "one it is. So each is run, its conditioning live. Call the conditional one first, and name them: "
    'handle.at(branch="cond"), handle.at(branch="uncond").'
)
UNCOVERED = (
    "Some repeated blocks of {} can't be left out, so they always run: {}. Pass anatomy=Anatomy(...) if that is wrong; "
    "synccache inspect lists them."
)
UNKNOWN = (
    "The order of the blocks of {} is not understood, so every step is computed. Pass anatomy=Anatomy(...) with the "
    "blocks in the order in which they run."
)
ADVICE = {
    "first step": "Each step looked like the start of a run of its own: tell where calls belong, handle.at(run=...).",
    "no anchors": "What an earlier step stored was gone each time: other batch sizes, shapes or requests in between.",
    "window": WINDOWS,
    "new conditioning": "What the blocks are conditioned on was another at each step.",
    "warm-up": "The warm-up is as long as the run: lower warmup=.",
    "error": "The error is over the threshold at each step: raise threshold=, or say computed_steps= instead.",
    "error not finite": "The error is not a number: the model gives infinities, perhaps for want of range (float16).",
    "nothing to compare with": "What the gate looks at had another shape each time.",
    "blocks": "The order of its blocks is not understood: pass anatomy= with those to leave out.",
}


def why_nothing_was_left_out(
    reasons: Mapping[str, int], total: int | None, skipped: bool, broken_off: int
) -> str | None:
    """In how long a run, why, and what to do; None where nothing is amiss, or it was said already.

    Args:
        reasons: of the run's computed steps, how often each was given.
        total: number of steps that the run should have; None: not known.
        skipped: whether any step was left out.
        broken_off: how many runs have now ended after a few computed steps, one after the other.
    """
    steps, own = sum(reasons.values()), {r: n for r, n in reasons.items() if r in ADVICE}
    if broken_off >= 4:
        return f"{broken_off} runs of at most 3 steps. {ADVICE['first step']}"
    if skipped or steps < 4 or not own or "no other branch" in reasons:  # which was said already
        return None
    reason, count = max(own.items(), key=lambda item: item[1])
    cut_short = total is not None and steps < total  # in its warm-up, perhaps
    if (reason == "warm-up" and cut_short) or (reason == "nothing to compare with" and count <= 2):  # as must be
        return None
    return f"a run of {steps} steps; the reason at {count} of them: {reason}. {ADVICE[reason]}"
