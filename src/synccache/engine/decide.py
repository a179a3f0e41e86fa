"""The decision of one call: what the gate is shown, what it says, and what is done instead where that can't be."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from .anatomy import tensors_in
from .call import Call
from .guidance import guided, over
from .ranks import agree
from .session import Kept
from .types import Action, Decision, Run, Seen, Step, Tap

if TYPE_CHECKING:
    from .engine import Engine


WINDOWS = (
    "The model is called with several windows of a longer video at each step. What a window stores is of no use to "
    "another one, and their places move from step to step, so every step of this run is computed. Videos that fit into "
    "one window are cached."
)

IDLE = (
    "{!r} leaves out other guidance branches only, and no step has called the model for one: there is no guidance, or "
    "both branches come in one batch. So every step is computed in full."
)


def moment(engine: Engine) -> str:
    """When a gate decides: ``"before"`` the model runs, at the ``"entry"`` of its first block, after a ``"probe"``."""
    gate = engine.method.gate
    if gate.probe:
        return "probe"
    return "entry" if "signal" in gate.watches else "before"


def decide(engine: Engine, call: Call) -> None:
    """Settle what ``call`` does, once all is there that the gate watches.

    The first branch of a step asks the gate; with shared decisions the others follow. Where nothing newer than the last
    computed step is stored, the call is computed, whoever decided.
    """
    session = call.session
    if call.position is None or call.decides:
        call.seen = _look(engine, call)
    if call.position is None:
        locate(engine, call)
    place, step = call.position, call.step
    assert place is not None and step is not None
    if place.windowed:
        call.decision = Decision(Action.COMPUTE, "window")
        return
    if place.new_run or not call.decides:
        now = {name: Tap(tap.now) for name, tap in call.seen.taps.items()}
        call.seen = replace(call.seen, taps=now, ratios=None if call.decides else session.shared_ratios)
    key = None if engine.shared else place.branch
    decision = _ask(engine, call, key) if call.decides else session.shared
    assert decision is not None
    if not call.decides:
        decision = replace(decision, reason="follows", error=None, total=None)
    own = [] if guided(engine, call) else engine.usable(call.expert)
    filled = [r for r in own if decision.of(r) is Action.FILL]
    since = session.computed_at.get(key, 0)
    only_guidance = engine.method.guidance is not None and not engine.regions[call.expert]
    told = only_guidance and session.told(call.expert, over(place.branch).id, since)
    ready = told or (filled and session.ready(call.expert, place.branch, filled, since))
    if decision.fills and not ready:
        reason = "new conditioning" if place.new_conditioning else "no anchors"
        if only_guidance and call.decides and not session.told(call.expert, over(place.branch).id, 0):
            engine.notices.say("idle", IDLE.format(engine.method.name))
        decision = replace(decision, action=Action.COMPUTE, plan=None, reason=reason)
    if call.decides:
        session.gates[key] = engine.method.gate.record(session.gates[key], step, decision, call.seen)
        session.shared = decision if engine.shared else None
        session.shared_ratios = call.seen.ratios
        session.note_error(step, decision.error)
        session.skipped = session.skipped or decision.fills
        if not decision.fills:
            session.computed_at[key] = step.index
        for name, tap in call.seen.taps.items():
            if tap.now is not None:
                kept = session.kept.setdefault((call.expert, key, name), Kept())
                kept.take(tap.now, engine.method.gate.watches[name], not decision.fills)
    call.decision = decision
    regions = () if guided(engine, call) else engine.regions[call.expert]
    call.regions = {i: r for r in regions for i in r.members if not r.part}
    call.parts = {(r.first, name): r for r in regions for name in r.modules}


def locate(engine: Engine, call: Call) -> None:
    """Find the call's run, step and branch, now that its timestep is known."""
    assert call.timestep is not None
    session, anatomy = call.session, engine.structures[call.expert].anatomy
    place = session.clock.observe(
        call.timestep, call.latents, call.conditioning, call.label, engine.schedule, anatomy.steady, anatomy.windows
    )
    if place.new_run:
        engine.remember_errors(session)
        session.start_run(engine.run_length(call.timestep))
    elif place.new_batch or place.new_conditioning:
        session.drop_anchors(branch=place.branch)
    session.keep_only(call.expert)
    if place.windowed and place.evaluation:
        session.give_up()
        engine.notices.say("windows", WINDOWS)
    if place.new_evaluation:
        session.shared = None
    call.position = place
    call.step = Step(place.step, call.timestep, session.total, place.evaluation)
    call.decides = not engine.shared or session.shared is None


def _ask(engine: Engine, call: Call, key: Hashable) -> Decision:
    session, gate, step = call.session, engine.method.gate, call.step
    assert step is not None
    if key not in session.gates:
        run = Run(session.total, engine.recorded.get(session.total), engine.regions[call.expert])
        session.gates[key] = gate.init(run)
    decision, session.gates[key] = gate.decide(session.gates[key], step, call.seen)
    if decision.fills and step.index == 0:
        decision = replace(decision, action=Action.COMPUTE, plan=None, reason="first step")
    return decision


def _look(engine: Engine, call: Call) -> Seen:
    """Measure the ratios, and bring them over together with a timestep that is still on the accelerator."""
    gate, taps, mask = engine.method.gate, {}, None
    key = None if engine.shared or call.position is None else call.position.branch
    for name in gate.watches:
        now = call.watched.get(name)
        if now is not None and name in ("probe", "residual"):
            now, mask = engine.video_tokens(call, now, max(0, gate.probe - 1))
        if now is not None or name == "output":
            taps[name] = call.session.kept.get((call.expert, key, name), Kept()).tap(now)
    seen = Seen(taps, mask)
    measured = gate.measure(seen) if taps else None
    if measured is not None:
        told = engine.structures[call.expert].anatomy.group
        group = told() if engine.group is None and told is not None else engine.group
        measured = agree(measured, group, engine.models[call.expert])
    parts = [p.reshape(-1).float() for p in (call.pending, measured) if p is not None]
    values = torch.cat([p.to(parts[-1].device) for p in parts]).tolist() if parts else []
    if call.pending is not None:
        call.arrive(values.pop(0))
    if measured is None:
        return seen
    quotients = [n / d if d else (0.0 if n == 0 else math.inf) for n, d in zip(values[::2], values[1::2], strict=True)]
    width = measured.shape[-1] // 2
    samples = [quotients[i : i + width] for i in range(0, len(quotients), width)]
    return replace(seen, ratios=tuple(map(tuple, samples)))


def keep_output(engine: Engine, call: Call, output: Any) -> None:
    """Keep a computed call's output for a gate that watches it."""
    watch = engine.method.gate.watches.get("output")
    if watch is None or not call.decides or call.decision is None or call.decision.fills or call.position is None:
        return
    first = next(iter(tensors_in(output)), None)
    if first is not None:
        key = None if engine.shared else call.position.branch
        call.session.kept.setdefault((call.expert, key, "output"), Kept()).take(first, watch, computed=True)
