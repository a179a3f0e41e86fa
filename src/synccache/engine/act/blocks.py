"""One block within a call: run it, record it, or leave it out."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...core.anatomy import bind, original_class
from ...core.types import Region
from ...errors import UnsupportedModel
from ..attach.hook import bring_weights
from .call import Call, Run
from .capture import Capture
from .conditioning import SIGNALS, see_inputs
from .decide import decide
from .tokens import rows_of, run_active, run_whole
from .values import forecast, keep


def run_block(call: Call, index: int, run: Run, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Block ``index`` is called: probe blocks run, then the gate decides, then regions are filled in or recorded."""
    expert, structure, measure = call.expert, call.expert.structure, call.engine.measure
    if index != call.latest + 1 and not _in_order(call, index):
        call.work += 1
        return run(*args, **kwargs)
    first = not call.called
    call.called.add(index)
    call.latest = index
    if call.decision is None:
        if first:
            call.length = next((x.shape[1] for x in structure.take(index, args, kwargs).values() if x.ndim > 2), 0)
            _enter(call, index, args, kwargs)
        if index >= measure.blocks:
            decide(call)
    region = None if call.decision is None or call.alone else expert.blocks.get(index)
    if region is not None and call.is_filled(region):
        rows = rows_of(call, index, args, kwargs)
        if rows is not None:
            filled = run_active(call, region, rows, index, run, args, kwargs)
        else:
            filled = _fill(call, region, index, args, kwargs)
        if filled is not None:
            return filled
    inputs = structure.take(index, args, kwargs)
    if expert.parts:
        call.shapes = [x.shape for x in inputs.values()]
    bound = None
    if not structure.settled:
        bound = bind(structure.blocks[index].cls, args, kwargs)
        structure.enter(index, bound)
    capture = None
    if region is not None and not expert.confused:
        capture = call.captures.get(region.id)
        if capture is None:
            call.session.make_room(call.place(region))
            capture = call.captures[region.id] = Capture(region, structure.joined)
        capture.enter(index, inputs)
    if call.begun:
        bring_weights(structure.anatomy.blocks[index])
    if call.decision is None and first and inputs and "residual" in measure.watches:
        call.entry = next(iter(inputs.values())).clone()
    call.work += 1
    if index in expert.rows and call.decision is not None and not expert.confused:
        output = run_whole(call, index, run, args, kwargs, next(iter(inputs.values())).shape[1])
    else:
        output = run(*args, **kwargs)
    fits = structure.leave(index, bound, output) if bound is not None else index not in structure.anatomy.fixed
    if capture is not None:
        outputs = structure.given(index, output) if fits else {}
        capture.leave(index, inputs, outputs, structure.added(index, args, kwargs))
        if index == capture.region.last:
            store(call, capture)
    if call.decision is None and index == measure.blocks - 1:
        probe = next(iter(structure.given(index, output).values()), None)  # [B, S, D]
        if probe is not None:
            call.watched["probe"] = probe
            if call.entry is not None and call.entry.shape == probe.shape:
                call.watched["residual"] = probe - call.entry
        call.entry = None
        decide(call)
    return output


def store(call: Call, capture: Capture) -> None:
    """Turn what was summed into anchors."""
    region = capture.region
    call.captures.pop(region.id, None)
    capture.settle()
    if not capture.valid or call.session.clock.windowed:
        return
    main = next(iter(call.expert.structure.streams(region.first)), None)
    for stream, total in capture.sums.items():
        keep(call, region, stream, total, capture.dtypes[stream], stream == main, own=True)


def _fill(call: Call, region: Region, index: int, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The output of a block that is left out; None if it has to be computed after all."""
    structure, absorbed = call.expert.structure, region.value == "absorbed"
    begins, ends = region.id not in call.begun, absorbed and index == region.last
    if not begins and not ends and (absorbed or not structure.blocks[index].added):
        return structure.passed(index, args, kwargs)
    streams = structure.typed(index, args, kwargs)
    if begins:
        held = call.session.anchors_of(call.place(region))
        fits = held.keys() == streams.keys()
        fits = fits and all(held[n].values[0].shape == x.shape for n, x in streams.items())
        if not fits or not structure.can_skip(region.members):
            text = f"What was stored for {region.id} doesn't fit this call, so it is computed."
            call.engine.notices.say("misfit", text)
            return None
        call.begun.add(region.id)
        main = next(iter(streams))
        values = {n: forecast(call, region, held[n], x, n == main) for n, x in streams.items()}
        if absorbed:
            call.held[region.id] = values
        else:
            streams = values
    if ends:
        streams = call.held.pop(region.id)
    elif not absorbed:
        for stream, value in structure.added(index, args, kwargs):
            streams[stream] = (streams[stream] + value).to(streams[stream].dtype)
    return structure.skipped_output(index, streams)


def _in_order(call: Call, index: int) -> bool:
    """Whether a block that isn't the next one can be dealt with all the same; else nothing is filled in any more.

    Raises:
        UnsupportedModel: others were left out already in this call.
    """
    if index > call.latest and index not in call.called:
        return True
    cls = original_class(call.expert.structure.anatomy.blocks[index]).__name__
    what = "twice in one call" if index in call.called else f"after block {call.latest}"
    text = f"Block {index} ({cls}) ran {what}, so blocks can't be left out as they should. "
    advice = "Pass anatomy= with the blocks that run once, in the order in which they run."
    if call.begun:
        raise UnsupportedModel(text + advice)
    if not call.expert.confused:
        call.expert.confused = True
        call.session.drop(expert=call.expert.index)
        if call.expert.structure.anatomy.observe is None:  # else it was a guess, and this call shows what is right
            call.engine.notices.say("order", f"{text}Every step is computed. {advice}")
    for capture in call.captures.values():
        capture.valid = False
    return False


def _enter(call: Call, index: int, args: tuple, kwargs: dict[str, Any]) -> None:
    """The first block is called: see the signal that a gate may decide by, and what the blocks are conditioned on.

    Raises:
        UnsupportedModel: the gate wants a signal, and the block isn't called with any that is known.
    """
    anatomy = call.expert.structure.anatomy
    cls = original_class(anatomy.blocks[index])
    bound = bind(cls, args, kwargs)
    see_inputs(call, index, bound)
    if "signal" not in call.engine.measure.watches:
        return
    named = (bound[name] for name in SIGNALS if isinstance(bound.get(name), Tensor))
    found = next(named, None) if anatomy.signal is None else anatomy.signal(bound)
    if found is None and anatomy.observe is not None:
        return  # perhaps this is none of its blocks
    if found is None:
        raise UnsupportedModel(
            f"{call.engine.method.name} decides by the time embedding, and {cls.__name__} is called with none of "
            f"{', '.join(SIGNALS)}. Pass anatomy= with signal=, which gives it from its arguments."
        )
    if found.ndim > 2 and found.shape[1] > 64:  # a timestep for each token: a few of them tell as much
        found = found[:, :: found.shape[1] // 64]
    call.watched["signal"] = found
