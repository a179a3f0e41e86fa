"""The decision of one call: what the gate is shown, what it says, and what is done instead where that can't be."""

from __future__ import annotations

import math
from dataclasses import replace

from ...anatomies.ranks import agree, group_for
from ...core.advice import IDLE
from ...core.types import Action, Decision, Run, Seen, Tap
from ...errors import InputError
from .call import Call
from .conditioning import has_changed
from .locate import locate
from .outputs import is_told, over
from .tokens import can_follow
from .values import video_tokens


def decide(call: Call) -> Decision:
    """Settle what ``call`` does, once all is there that the gate watches.

    The first branch of a step asks the gate; with shared decisions the others follow. Where nothing newer than the last
    computed step is stored, the call is computed, whoever decided.
    """
    engine, session, expert = call.engine, call.session, call.expert
    if not engine.shared and not call.located:
        locate(call)
    if not call.located or call.decides:
        call.seen = _look(call)
    locate(call)
    changed = has_changed(call)
    if changed:
        led = expert.guidance is not None and call.decides  # what others add to this branch is void, too
        session.drop(branch=None if led else call.branch.name)
    if session.clock.windowed:
        call.decision = Decision(Action.COMPUTE, "window")
        return call.decision
    if call.new_run or not call.decides:
        now = {name: Tap(tap.now) for name, tap in call.seen.taps.items()}
        call.seen = replace(call.seen, taps=now, ratios=None if call.decides else session.ratios)
    call.alone = is_told(call)
    decision = call.decision = _possible(call, _ask(call), changed)
    if call.decides:
        _remember(call, decision)
    return decision


def _remember(call: Call, decision: Decision) -> None:
    """What was decided, for the branches that follow and for the steps to come."""
    engine, session, key, step = call.engine, call.session, call.key, call.step
    session.gates[key] = engine.method.gate.record(session.gates[key], step, decision, call.seen)
    session.shared = decision if engine.shared else None
    session.ratios = call.seen.ratios
    session.skipped = session.skipped or decision.fills
    if not decision.fills:
        if engine.shared:
            session.drop_older(session.computed_at.get(key, 0))
        session.computed_at[key] = step.index
        session.reasons[decision.reason] += bool(call.expert.regions) and call.new_evaluation and not step.evaluation
    for name, tap in call.seen.taps.items():
        if tap.now is not None:
            watch = engine.measure.watches[name]
            session.look_at((call.expert.index, key, name), tap.now, watch, step, not decision.fills)


def _possible(call: Call, decision: Decision, changed: bool) -> Decision:
    """``decision``, or to compute where it can't be followed."""
    if not decision.fills:
        return decision
    session, expert = call.session, call.expert
    since = session.computed_at.get(call.key, 0)
    usable = [] if call.alone or expert.confused else expert.filled
    if decision.groups is not None and not can_follow(call, decision.groups, since):
        usable = []
    filled = [r for r in usable if decision.of(r) is Action.FILL and expert.can_fill(r)]
    only_guidance = expert.guidance is not None and not expert.filled
    told = only_guidance and session.followed(expert.index, over(call, call.branch).id, since)
    if told or (filled and all([session.ready(call.place(r), since) for r in filled])):
        return decision
    reason = "new conditioning" if changed else "blocks" if expert.confused else "no anchors"
    if only_guidance and call.decides and len(session.clock.branches) < 2:
        call.engine.notices.say("idle", IDLE.format(call.engine.method.name))
        reason = "no other branch"
    return replace(decision, action=Action.COMPUTE, actions=None, groups=None, reason=reason)


def _ask(call: Call) -> Decision:
    """What the gate says, or has said to the branch that decides."""
    session, gate, step, key = call.session, call.engine.method.gate, call.step, call.key
    if session.shared is not None and not call.decides:
        return replace(session.shared, reason="follows", error=None, total=None)
    if key not in session.gates:
        try:
            session.gates[key] = gate.init(Run(session.total, call.expert.filled))
        except InputError:
            if not session.assumed:
                raise
            session.gates[key] = gate.init(Run(None, call.expert.filled))  # a guess refuses no run
    decision, session.gates[key] = gate.decide(session.gates[key], step, call.seen)
    if decision.fills and (step.index == 0 or call.new_run):
        decision = replace(decision, action=Action.COMPUTE, actions=None, groups=None, reason="first step")
    return decision


def _look(call: Call) -> Seen:
    """Measure the ratios, and bring them over together with all else that the call needs on the host."""
    engine, measure, taps, mask = call.engine, call.engine.measure, {}, None
    for name in measure.watches:
        now = call.watched.get(name)
        if now is not None and name in ("probe", "residual"):
            now, mask = video_tokens(call, now, max(0, measure.blocks - 1))
        if now is not None or name == "output":
            taps[name] = call.session.look_back((call.expert.index, call.key, name), now)
    grid, anatomy = None, call.expert.structure.anatomy
    if call.expert.rows and anatomy.grid is not None:
        grid = anatomy.grid(call.bound)
    others = call.length - math.prod(grid) if grid is not None else 0
    seen = Seen(taps, mask, grid=grid if others >= 0 else None, others=others)
    measured = measure.measure(seen) if taps else None
    if measured is None:
        return seen
    group = group_for(anatomy, call.expert.model, engine.group)
    measured = agree(measured, group).float()
    ratios, width = [], measured.shape[-1] // 2

    def arrive(values: list[float]) -> None:
        pairs = zip(values[::2], values[1::2], strict=True)  # of each sample in turn
        quotients = [n / d if d else (0.0 if n == 0 else math.inf) for n, d in pairs]
        ratios.extend([tuple(quotients[i : i + width]) for i in range(0, len(quotients), width)])

    call.want(measured, arrive)
    call.bring()
    return replace(seen, ratios=tuple(ratios))
