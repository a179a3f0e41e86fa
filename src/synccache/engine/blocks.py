"""One block within a call: run it, record it, or leave it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..errors import UnsupportedModel
from .anatomy import bind, original_class
from .call import Call
from .capture import Capture
from .decide import decide
from .forecast import forecast
from .structure import Structure, take_apart
from .swap import bring_weights
from .types import Action, Region

if TYPE_CHECKING:
    from .engine import Engine

_SIGNALS = ("temb", "e", "vec", "timestep_embedding", "modulation", "emb", "adaln_input", "temb_mod_img")


def run_block(engine: Engine, call: Call, index: int, run: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
    """Block ``index`` is called: probe blocks run, then the gate decides, then regions are filled in or recorded."""
    structure = engine.structures[call.expert]
    cls = original_class(structure.anatomy.blocks[index])
    bound = bind(cls, args, kwargs)
    probe = engine.method.gate.probe
    if index in call.called:
        raise UnsupportedModel(
            f"Block {index} ({cls.__name__}) ran twice in one call of the model, and only blocks that run once can be "
            "cached. Pass anatomy= with those that do."
        )
    if index < call.latest:
        engine.notices.say(
            "order",
            f"Block {index} ({cls.__name__}) runs after block {call.latest}, so blocks can't be left out as they "
            "should. Pass anatomy= with the blocks in the order in which they run.",
        )
    call.called.add(index)
    call.latest = index
    if call.decision is None and index >= probe:
        watch_entry(engine, call, bound)
        decide(engine, call)
    region = call.regions.get(index)
    if call.decision is not None and region is not None and call.decision.of(region) is Action.FILL:
        filled = _fill(engine, call, structure, region, index, bound)
        if filled is not None:
            return filled
    inputs = _streams(structure, index, bound)
    call.shapes = [x.shape for x in inputs.values()]
    structure.enter(index, bound)
    capture = _capture(engine, call, region) if call.decision is not None and region is not None else None
    if capture is not None:
        capture.enter(index, inputs, index - 1 in structure.joined)
    if call.begun:
        bring_weights(structure.anatomy.blocks[index])
    if call.decision is None and index == 0 and inputs:
        call.entry = next(iter(inputs.values())).clone() if "residual" in engine.method.gate.watches else None
    output = run(*args, **kwargs)
    fits = structure.leave(index, bound, output)
    outputs = _outputs(structure, index, output) if fits else {}
    if capture is not None and region is not None:
        _leave(engine, call, structure, capture, index, inputs, outputs, bound)
    if call.decision is None and index == probe - 1:
        watch_probe(call, _main(structure, index, output))
        decide(engine, call)
    return output


def watch_entry(engine: Engine, call: Call, bound: Mapping[str, Any]) -> None:
    """The first block is called with ``bound`` arguments: see the signal that a gate may decide by.

    Raises:
        UnsupportedModel: the gate wants one, and the block isn't called with any that is known.
    """
    if "signal" not in engine.method.gate.watches:
        return
    anatomy = engine.structures[call.expert].anatomy
    signal = anatomy.signal(bound) if anatomy.signal is not None else next(
        (bound[n] for n in _SIGNALS if isinstance(bound.get(n), Tensor)), None
    )  # fmt: skip
    if signal is None:
        raise UnsupportedModel(
            f"{engine.method.name} decides by the time embedding, and {original_class(anatomy.blocks[0]).__name__} is "
            f"called with none of {', '.join(_SIGNALS)}. Pass anatomy= with signal=, which gives it from its arguments."
        )
    call.watched["signal"] = signal


def watch_probe(call: Call, value: Tensor | None) -> None:
    """The probe blocks have run, with ``value`` [B, S, D] as the outcome."""
    if value is None:
        return
    call.watched["probe"] = value
    if call.entry is not None and call.entry.shape == value.shape:
        call.watched["residual"] = value - call.entry
    call.entry = None


def close_captures(engine: Engine, call: Call) -> None:
    """Turn what is still being summed into anchors."""
    for capture in list(call.captures.values()):
        _store(engine, call, capture)


def _streams(structure: Structure, index: int, bound: Mapping[str, Any]) -> dict[str, Tensor]:
    return {n: bound[n] for n in structure.streams(index) if isinstance(bound.get(n), Tensor)}


def _main(structure: Structure, index: int, output: Any) -> Tensor | None:
    """The main stream after block ``index``, also where that block is never left out: ranks split the tokens there."""
    leaves: list[Any] = []
    take_apart(output, leaves)
    position = next(iter(structure.streams(index).values()))
    value = leaves[position] if position < len(leaves) else None
    return value if isinstance(value, Tensor) else None


def _outputs(structure: Structure, index: int, output: Any) -> dict[str, Tensor]:
    leaves: list[Any] = []
    take_apart(output, leaves)
    return {n: leaves[p] for n, p in structure.streams(index).items()}


# -- computed ----------------------------------------------------------------------------------------------------


def _capture(engine: Engine, call: Call, region: Region) -> Capture | None:
    if region.id not in call.captures:
        assert call.position is not None
        for history in call.session.anchors_of(call.expert, call.position.branch, region).values():
            history.make_room()
        call.captures[region.id] = Capture(region)
    return call.captures[region.id]


def _leave(
    engine: Engine, call: Call, structure: Structure, capture: Capture, index: int, inputs: Mapping[str, Tensor],
    outputs: Mapping[str, Tensor], bound: Mapping[str, Any],
) -> None:  # fmt: skip
    if set(outputs) != set(inputs):
        if not (outputs and set(outputs) < set(inputs) and index == capture.region.first):
            capture.valid = False
            return
        capture.drop(set(inputs) - set(outputs))  # streams that end in this block
    capture.leave(index, outputs, index in structure.joined)
    if capture.region.value != "absorbed":
        for stream, value in structure.added(index, bound):
            capture.sums[stream].sub_(value)
    if capture.parted is not None:
        structure.part(capture.parted)
        capture.parted = None
    if index == capture.region.last:
        _store(engine, call, capture)


def _store(engine: Engine, call: Call, capture: Capture) -> None:
    call.captures.pop(capture.region.id, None)
    sums = capture.finish()
    place = call.position
    if sums is None or place is None:
        return
    for stream, total in sums.items():
        value = engine.stored(total, capture.dtypes[stream])
        history = call.session.history(
            call.expert, place.branch, capture.region, stream, engine.method.forecaster.anchors
        )
        history.push(float(place.step), value)
        if engine.on_anchor is not None:
            engine.on_anchor(call, capture.region, stream, history.anchors[0])


# -- left out ----------------------------------------------------------------------------------------------------


def _fill(
    engine: Engine, call: Call, structure: Structure, region: Region, index: int, bound: Mapping[str, Any]
) -> Any:
    """The output of a block that is left out; None if it has to be computed after all."""
    streams = structure.typed(index, _streams(structure, index, bound))
    if region.id not in call.begun:
        assert call.position is not None and call.step is not None
        histories = call.session.anchors_of(call.expert, call.position.branch, region)
        fits = set(histories) == set(streams) and all(
            h.anchors[0].value.shape == streams[n].shape for n, h in histories.items()
        )
        if not fits or not structure.can_skip(region.members):
            engine.notices.say("misfit", f"What was stored for {region.id} doesn't fit this call, so it is computed.")
            return None
        call.begun.add(region.id)
        main = next(iter(streams))
        firsts = {n: region.first if n == main else None for n in streams}
        values = {n: forecast(engine, call, firsts[n], x, histories[n]) for n, x in streams.items()}
        if region.value == "absorbed":
            call.held[region.id] = values
        else:
            streams = values
    if region.value != "absorbed":
        for stream, value in structure.added(index, bound):
            streams[stream] = (streams[stream] + value).to(streams[stream].dtype)
    elif index == region.last:
        streams = call.held.pop(region.id)
    return structure.skipped_output(index, streams)
