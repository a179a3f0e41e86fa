"""The decision of one call: what the gate is shown, what it says, and what is done instead where that can't be."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .call import Call
from .guidance import guided
from .ranks import agree
from .types import Action, Decision, Run, Seen, Step

if TYPE_CHECKING:
    from .engine import Engine


WINDOWS = (
    "The model is called with several windows of a longer video at each step. What a window stores is of no use to "
    "another one, and their places move from step to step, so every step of this run is computed. Videos that fit into "
    "one window are cached."
)


def decide(engine: Engine, call: Call, probe: Tensor | None) -> None:
    """Settle what ``call`` does, once the gate's probe blocks have run.

    The first branch of a step asks the gate; with shared decisions the others follow. Where nothing newer than the last
    computed step is stored, the call is computed, whoever decided.

    Args:
        probe: [B, S, D] main stream after the last probe block, or None.
    """
    session = call.session
    if call.position is None or call.decides:
        call.seen = _look(engine, call, probe)
    if call.position is None:
        locate(engine, call)
    place, step = call.position, call.step
    assert place is not None and step is not None
    if place.windowed:
        call.decision = Decision(Action.COMPUTE, "window")
        return
    if place.new_run or not call.decides:
        call.seen = replace(call.seen, previous=None, errors=None)
    key = None if engine.shared else place.branch
    decision = _ask(engine, call, key) if call.decides else session.shared
    assert decision is not None
    if not call.decides:
        decision = replace(decision, reason="follows", error=None, total=None)
    own = [] if guided(engine, call) else engine.usable(call.expert)
    filled = [r for r in own if decision.of(r) is Action.FILL]
    since = session.computed_at.get(key, 0)
    if decision.fills and not (filled and session.ready(call.expert, place.branch, filled, since)):
        reason = "new conditioning" if place.new_conditioning else "no anchors"
        decision = replace(decision, action=Action.COMPUTE, plan=None, reason=reason)
    if call.decides:
        session.gates[key] = engine.method.gate.record(session.gates[key], step, decision, call.seen)
        session.shared = decision if engine.shared else None
        session.note_error(step, decision.error)
        session.skipped = session.skipped or decision.fills
        if not decision.fills:
            session.computed_at[key] = step.index
        if call.seen.probe is not None:
            session.probes[call.expert, key] = call.seen.probe.detach().clone()
    call.decision = decision
    regions = () if guided(engine, call) else engine.regions[call.expert]
    call.regions = {i: r for r in regions for i in r.members}


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
        session.gates[key] = gate.init(Run(session.total, engine.recorded.get(session.total)))
    decision, session.gates[key] = gate.decide(session.gates[key], step, call.seen)
    if decision.fills and step.index == 0:
        decision = replace(decision, action=Action.COMPUTE, plan=None, reason="first step")
    return decision


def _look(engine: Engine, call: Call, probe: Tensor | None) -> Seen:
    """Measure the error, and bring it over together with a timestep that is still on the accelerator."""
    seen, measured = Seen(), None
    if probe is not None:
        key = None if engine.shared or call.position is None else call.position.branch
        previous = call.session.probes.get((call.expert, key))
        video, mask = engine.video_tokens(call, probe, max(0, engine.method.gate.probe - 1))
        same = previous is not None and previous.shape == video.shape
        seen = Seen(video, previous if same else None, mask)
        measured = engine.method.gate.measure(seen) if same else None
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
    pairs = zip(values[::2], values[1::2], strict=True)
    return replace(seen, errors=tuple(n / d if d else (0.0 if n == 0 else float("inf")) for n, d in pairs))
