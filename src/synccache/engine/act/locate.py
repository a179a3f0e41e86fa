"""Where the call belongs, once the numbers that this hangs on are here; and what follows for what is kept."""

from __future__ import annotations

from ...core.method import Method
from ...core.notices import Notices
from ...core.types import Step, innermost
from ..store.session import Session
from .call import Call

WINDOWS = (
    "The model is called several times at one step with latents of their own: windows of a longer video, tiles, or "
    "several generations at once. What one of them stores is of no use to another, so every step of this run is "
    "computed. Tell them apart to have them cached: with handle.at(window=...), or handle.request(...) for generations."
)
LENGTH = (
    "{!r} protects the last steps of a run, and nobody tells how many steps this run will have. Pass steps= to apply, "
    "or tell it with handle.at(total=...); apply the method to the pipeline, and its scheduler tells."
)


def locate(call: Call) -> None:
    """Find the call's run, step and branch."""
    session, engine, clock = call.session, call.engine, call.session.clock
    ran = clock.step + 1 if clock.ended else None
    clock.observe(call, session.lost)
    call.located = True
    if call.new_run:
        end_run(engine.method, session, engine.notices)
        engine.ran = ran if ran is not None and (session.total is None or session.assumed) else engine.ran
        session.start_run()
        engine.drop_windows(session)
    elif call.new_evaluation and clock.doubtful:
        session.drop()
    elif call.new_batch:
        session.drop(branch=call.branch.name)
    if call.new_evaluation:
        session.shared = None
    _set_length(call)
    session.keep_only(call.expert.index)
    if clock.windowed and clock.evaluation:
        session.drop()
        engine.notices.say("windows", WINDOWS)
    call.step = Step(clock.step, call.time.high, session.total, clock.evaluation)
    call.decides = not engine.shared or session.shared is None


def _set_length(call: Call) -> None:
    """How many steps the run has: told, else by the schedule that it follows, else as many as the run before."""
    engine, session = call.engine, call.session
    total = call.told.total or engine.steps or session.clock.length
    assumed = total is None and (call.new_run or session.assumed or session.clock.strayed)
    if assumed:
        total = session.total if session.assumed else engine.ran
        total = None if total is not None and session.clock.step >= total else total
    elif total is None:
        total = session.total
    session.assumed = assumed
    if total != session.total:
        session.total = total
        session.gates.clear()  # a gate may have planned for another length
    elif not call.new_run:
        return
    if total is None and engine.rule.skips and engine.method.needs_length:
        engine.notices.say("length", LENGTH.format(engine.method.name))
    if total is not None and total <= 8 and engine.rule.skips and not session.assumed:
        text = f"This run has {total} step{'s' * (total > 1)}. With 8 or fewer, leaving some out rarely pays: compare."
        engine.notices.say("few steps", text)


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


def end_run(method: Method, session: Session, notices: Notices) -> None:
    """Say once why a run that could have skipped did not, or why there are nothing but beginnings of runs."""
    steps = sum(session.reasons.values())
    cut_short = session.total is not None and steps < session.total  # in its warm-up, perhaps
    broken_off = 0 < steps < 4 and (cut_short or session.total is None)
    session.broken_off = session.broken_off + 1 if broken_off and not session.skipped else 0
    if not innermost(method.gate).skips:
        return
    own = {r: n for r, n in session.reasons.items() if r in ADVICE}
    said = f"{method.name!r} left out nothing in a run of {steps} steps"
    if session.broken_off >= 4:
        said = f"{method.name!r} left out nothing in {session.broken_off} runs of at most 3 steps"
        own = {"first step": 0}
    elif session.skipped or steps < 4 or not own or "no other branch" in session.reasons:  # which was said already
        return
    reason, count = max(own.items(), key=lambda item: item[1])
    if (reason == "warm-up" and cut_short) or (reason == "nothing to compare with" and count <= 2):  # as must be
        return
    at = f"; the reason at {count} of them: {reason}" if count else ""
    notices.say("nothing skipped", f"{said}{at}. {ADVICE[reason]}")
