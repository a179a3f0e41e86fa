"""What the hooks reach: a call of a whole transformer, from its first line to its record."""

from __future__ import annotations

import time
from typing import Any

from ...anatomies.ranks import agreed_cost, group_for
from ...core.anatomy import tensors_in
from ...core.fit import looks_inside
from ...core.types import Action
from ...trace import Record
from ..engine import Engine, Expert
from .begin import begin
from .blocks import store
from .call import Call, Run
from .decide import decide
from .locate import end_run, locate
from .outputs import fill_pass, keep_output, keep_pass, recall_output
from .tokens import returned


def run_model(engine: Engine, expert: Expert, run: Run, args: tuple, kwargs: dict[str, Any]) -> Any:
    """A call of a whole transformer."""
    call = begin(engine, expert, args, kwargs)
    if call is None:
        return run(*args, **kwargs)
    engine.now.call = call
    try:
        output = _filled(call)
        if output is None:
            output = run(*args, **kwargs)
            if call.decision is None:  # fewer blocks ran than the gate wants to see
                decide(call)
            for capture in list(call.captures.values()):
                store(call, capture)
            if expert.rows:
                output = returned(call, output)
            _keep(call, output)
        keep_pass(call, output)
        _finish(call)
    except BaseException:
        engine.reset(call.session.request)  # a run that broke off leaves nothing behind
        raise
    finally:
        engine.now.call = None
        expert.structure.call_is_over()
    return output


def _filled(call: Call) -> Any:
    """The output of a model that isn't run on this step; None where it has to run."""
    expert, region = call.expert, call.expert.whole
    if expert.guidance is not None and call.wanted and not call.session.clock.complete:  # it may follow the leading one
        locate(call)
    output = fill_pass(call)
    # Else the decision falls when the model's first block is called, or after the probe.
    before = not looks_inside(call.engine.method) and (region is not None or not (expert.blocks or expert.parts))
    if output is not None or not before:
        return output
    if not decide(call).fills:
        return None
    output = fill_pass(call)
    if output is None and region is not None and call.is_filled(region):
        output = recall_output(call, region)
    return output


def _keep(call: Call, output: Any) -> None:
    """Keep what a computed call returned, for its region and for a gate that watches it."""
    region, watch = call.expert.whole, call.engine.measure.watches.get("output")
    if region is not None and not call.begun:
        keep_output(call, region, output)
    first = next(iter(tensors_in(output)), None)
    computed = call.decides and call.decision is not None and not call.decision.fills
    if watch is not None and computed and first is not None and not call.session.clock.windowed:
        call.session.look_at((call.expert.index, call.key, "output"), first, watch, call.step, computed=True)


def _finish(call: Call) -> None:
    engine, expert, session, step, decision = call.engine, call.expert, call.session, call.step, call.decision
    assert decision is not None
    structure = expert.structure
    if not call.begun and not structure.settled:
        engine.recut(expert, void=structure.settle())
    known = structure.anatomy.observe is None
    if known and call.called and len(structure.anatomy.fixed) == len(structure.anatomy.blocks):
        engine.notices.say("fixed", "No block of this model can be left out: none returns the shape it was given.")
    only_guided = call.decides and decision.fills and expert.guidance is not None and not expert.filled
    action = Action.FILL if call.begun or only_guided else Action.COMPUTE
    anchors, kept = engine.bytes
    record = Record(
        run=session.clock.run, step=step.index, evaluation=step.evaluation, branch=call.branch.name,
        decides=call.decides, expert=expert.index, request=session.request, window=session.window,
        timestep=call.time.high, decision=action.value, reason=decision.reason, error=decision.error,
        total=decision.total, seconds=time.perf_counter() - call.started, bytes=anchors, probe_bytes=kept,
        share=_share(call, action),
    )  # fmt: skip
    ends = session.total is not None and step.index >= session.total - 1 and session.clock.complete
    _time(call, action is Action.FILL, step.index, ends)
    if ends:
        end_run(engine, session)
        session.reasons.clear()
        session.free()
        if session.clock.latents is not None:
            session.clock.latents.tensors = []  # whether another call's are the same then shows by value only
    if engine.on_record is not None:
        engine.on_record(record)


def _share(call: Call, action: Action) -> float:
    """Which part of the blocks' tokens was computed; where there are no blocks, of the model."""
    blocks = call.expert.structure.blocks
    return min(1.0, call.work / len(blocks)) if blocks else float(action is Action.COMPUTE)


def _time(call: Call, skipped: bool, step: int, ends: bool) -> None:
    """Time a call that is over, and let the pace know what a skipped step costs."""
    engine, session, expert = call.engine, call.session, call.expert
    engine.timing.stop(call.mark, (session.request, session.window), (session.clock.run, step), skipped, ends)
    if engine.pace is not None and session.total is not None:
        group = group_for(expert.structure.anatomy, expert.model, engine.group)
        cost = agreed_cost(engine.timing.cost, group, ends, call.latents.tensors[0].device)
        engine.notices.say("speed", engine.pace.learn(cost, session.total, ends))
