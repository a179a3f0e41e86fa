"""Outputs as something to fill in: of a module inside a block, of the whole model, of another guidance branch.

An output may be a tensor or any nesting of them; each tensor in it has anchors of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import UnsupportedModel
from .anatomy import original_class
from .call import Call
from .forecast import forecast
from .history import History
from .structure import put_together, take_apart
from .types import Action, Forecaster, Region

if TYPE_CHECKING:
    from .engine import Engine


@dataclass(frozen=True)
class Form:
    """What an output looks like: its structure, an empty tensor for each tensor in it, and what else is in it."""

    template: Any
    tensors: dict[int, Tensor]
    others: dict[int, Any]


def remember(
    engine: Engine, call: Call, region: Region, output: Any, forecaster: Forecaster, bases: Sequence[Tensor] = ()
) -> None:
    """Store the tensors of ``output``, less ``bases`` where such are given, as the region's newest anchors."""
    leaves: list[Any] = []
    template = take_apart(output, leaves)
    tensors = {i: leaf for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)}
    if not tensors:
        text = f"What stands for {region.id} is a {type(output).__name__}, so it is computed. Ask for tensors."
        engine.notices.say("outputs", text)
        return
    if bases and [t.shape for t in tensors.values()] != [b.shape for b in bases]:
        text = (
            f"What stands for {region.id} is of another shape than what it is compared with, so it is computed. Where "
            "the scope allows it, store the output itself (residual=False)."
        )
        engine.notices.say("outputs", text)
        return
    empty = {i: t.new_empty(()) for i, t in tensors.items()}
    engine.forms[call.expert, region.id] = Form(
        template, empty, {i: x for i, x in enumerate(leaves) if i not in tensors}
    )
    assert call.position is not None
    place = call.position
    for number, (position, tensor) in enumerate(tensors.items()):
        history = call.session.history(call.expert, place.branch, region, str(position), forecaster.anchors)
        history.make_room()
        value = tensor.detach() - bases[number] if bases else tensor.detach()
        kept = engine.stored(value, tensor.dtype)
        history.push(float(place.step), kept.clone() if kept is value and not bases else kept)
        if engine.on_anchor is not None:
            engine.on_anchor(call, region, str(position), history.anchors[0])


def recall(engine: Engine, call: Call, region: Region, forecaster: Forecaster, bases: Sequence[Tensor] = ()) -> Any:
    """The region's output as predicted from its anchors, on top of ``bases``; None where it has to be computed."""
    known = _known(engine, call, region)
    if known is None or (bases and len(bases) != len(known[1])):
        return None
    form, held = known
    leaves = dict(form.others)
    for number, (position, empty) in enumerate(form.tensors.items()):
        history = held[str(position)]
        shape = history.anchors[0].value.shape
        if bases and bases[number].shape != shape:
            return None
        like = bases[number].to(empty.dtype) if bases else empty.expand(shape)
        main = region.first if region.part and _is_main(call, shape) else None
        leaves[position] = forecast(engine, call, main, like, history, onto=bool(bases), forecaster=forecaster)
    call.begun.add(region.id)
    return put_together(form.template, leaves)


def _is_main(call: Call, shape: torch.Size) -> bool:
    """Whether a module's output is laid out as the main stream of its block, and as no other stream of it."""
    return call.shapes[:1] == [shape] and shape not in call.shapes[1:]


def _known(engine: Engine, call: Call, region: Region) -> tuple[Form, dict[str, History]] | None:
    """Form and anchors of a region that can be filled in."""
    form = engine.forms.get((call.expert, region.id))
    if form is None or call.position is None:
        return None
    held = call.session.anchors_of(call.expert, call.position.branch, region)
    return (form, held) if set(held) == set(map(str, form.tensors)) else None


# -- modules -----------------------------------------------------------------------------------------------------


def run_part(
    engine: Engine, call: Call, index: int, part: str, run: Callable[..., Any], args: tuple, kwargs: dict[str, Any]
) -> Any:
    """Module ``part`` of block ``index`` is called.

    Raises:
        UnsupportedModel: for the second time in one call of the model.
    """
    region = call.parts.get((index, part)) if call.decision is not None else None
    if call.decision is None or region is None:
        return run(*args, **kwargs)
    if (index, part) in call.called_parts:
        block = original_class(engine.structures[call.expert].anatomy.blocks[index]).__name__
        raise UnsupportedModel(f"{part} of block {index} ({block}) ran twice in one call, so it can't be cached.")
    call.called_parts.add((index, part))
    if part in region.feeding:
        return _feed(engine, call, region, part, run, args, kwargs)
    forecaster = engine.method.forecaster
    output = recall(engine, call, region, forecaster) if call.decision.of(region) is Action.FILL else None
    if output is None:
        output = run(*args, **kwargs)
        remember(engine, call, region, output, forecaster)
    return output


def _feed(
    engine: Engine, call: Call, region: Region, part: str, run: Callable[..., Any], args: tuple, kwargs: dict[str, Any]
) -> Any:
    """A module that feeds ``region.part`` alone is called: zeros that take no memory, where that one is filled in."""
    assert call.decision is not None and call.position is not None
    unheeded, key = call.session.unheeded, (call.expert, call.position.branch, f"{region.first} {part}")
    if call.decision.of(region) is Action.FILL and key in unheeded and _known(engine, call, region):
        return unheeded[key]
    output = run(*args, **kwargs)
    leaves: list[Any] = []
    template = take_apart(output, leaves)
    zeros = [x.new_zeros(()).expand(x.shape) if isinstance(x, Tensor) else x for x in leaves]
    unheeded[key] = put_together(template, dict(enumerate(zeros)))
    return output


# -- the whole model ---------------------------------------------------------------------------------------------


def whole(engine: Engine, call: Call) -> Region | None:
    """The region that stands for the whole model, if the method has one."""
    return next((r for r in engine.regions[call.expert] if not r.members), None)


def fill_model(engine: Engine, call: Call) -> Any:
    """The output of a model that isn't run on this step; None where it has to run."""
    region = whole(engine, call)
    if region is None or call.decision is None or call.decision.of(region) is not Action.FILL:
        return None
    return recall(engine, call, region, engine.method.forecaster, _latents(call, region))


def keep_model(engine: Engine, call: Call, output: Any) -> None:
    """Keep a computed call's output."""
    region = whole(engine, call)
    if region is not None and not call.begun and call.position is not None and not call.position.windowed:
        remember(engine, call, region, output, engine.method.forecaster, _latents(call, region))


def _latents(call: Call, region: Region) -> list[Tensor]:
    return call.latents.tensors if region.value == "residual" else []
