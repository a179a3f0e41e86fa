"""Where the call belongs, once the numbers that this hangs on are here; and what follows for what is kept."""

from __future__ import annotations

from ...core.advice import LENGTH, WINDOWS, why_nothing_was_left_out
from ...core.types import Step
from ..engine import Engine
from ..store.session import Session
from .call import Call


def locate(call: Call) -> None:
    """Find the call's run, step and branch, with all that is wanted from the device."""
    call.bring()
    if call.located:
        return
    session, engine, clock = call.session, call.engine, call.session.clock
    ran = clock.step + 1 if clock.ended else None
    clock.observe(call, session.lost)
    call.located = True
    if call.new_run:
        end_run(engine, session)
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
    if session.expert != call.expert.index:  # what the one before has stored is of no more use
        session.drop(expert=session.expert)
        session.expert = call.expert.index
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


def end_run(engine: Engine, session: Session) -> None:
    """Say once why a run that could have skipped did not, or why there are nothing but beginnings of runs."""
    steps, total = sum(session.reasons.values()), session.total
    broken_off = 0 < steps < 4 and (total is None or steps < total)
    session.broken_off = session.broken_off + 1 if broken_off and not session.skipped else 0
    said = why_nothing_was_left_out(session.reasons, total, session.skipped, session.broken_off)
    if engine.rule.skips and said is not None:
        engine.notices.say("nothing skipped", f"{engine.method.name!r} left out nothing in {said}")
