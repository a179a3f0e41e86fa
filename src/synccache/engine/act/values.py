"""A region's values: kept when it is computed, forecast when it is filled in. All regions do both in this one way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...core.form import Form
from ...core.sums import add_weighted
from ...core.types import Context, Region, Stored
from ..store.anchors import History
from .call import Call
from .tokens import video_tokens


def keep(call: Call, region: Region, stream: str, value: Tensor, dtype: torch.dtype, main: int | None) -> None:
    """Keep ``value``, which may be shared with others unless it is a tensor of the caller's own (a sum).

    ``main``: the block whose main stream this is, so that it is known where the video tokens lie; None for others.
    """
    engine, step = call.engine, call.step
    forecaster = region.forecaster or engine.method.forecaster
    kept = engine.stored(value, dtype)
    if engine.on_store is not None:
        run = (call.session.request, call.session.clock.run)
        show = lambda: video_tokens(call, kept, main) if main is not None else (kept, None)  # noqa: E731
        shown = Stored(region, stream, kept, step, call.branch.name, call.decides, run, main is not None, show)
        if not engine.on_store(shown):
            return
    held = call.session.held.setdefault(call.place(region), {})
    held.setdefault(stream, History(forecaster.anchors)).push(float(step.index), kept)


def forecast(
    call: Call, region: Region, history: History, value: Tensor, main: int | None, *, onto: bool = True
) -> Tensor:
    """``value`` plus what the forecaster predicts from the anchors; where not ``onto`` it, the prediction alone, and
    ``value`` only says dtype and device."""
    forecaster = region.forecaster or call.engine.method.forecaster
    split, key = forecaster.split, (id(forecaster), history.times)
    weights: Any = call.weights.get(key)
    if weights is None:
        context = Context(call.step, call.seen, gram=history.gram() if forecaster.gram else None)
        weights = forecaster.weights(history.times, float(call.step.index), context)
        weights = weights if split is not None else weights[0].tolist()
        if not forecaster.gram:
            call.weights[key] = weights
    values = history.values
    if not onto:
        newest, alone = values[0], split is None and weights[0] == 1 and sum(map(bool, weights)) == 1
        if alone and newest.dtype is value.dtype and newest.device == value.device:
            return newest.clone()
        value = value.expand(newest.shape)
    if split is None:
        return add_weighted(value, values, weights, onto)
    context = Context(call.step, call.seen)
    if main is not None:
        anatomy = call.expert.structure.anatomy
        grid = anatomy.grid(call.bound) if anatomy.grid is not None else None
        mask, first = video_tokens(call, value, main)[1], anatomy.first_token(main, call.bound)
        context = replace(context, mask=mask, grid=grid, offset=first, video=True)
    elif call.engine.mask.known:
        context = replace(context, mask=value.new_zeros(1, 0))  # nothing in this stream is the person's
    return split.add(value, values, weights, context, onto)


# -- outputs, of modules and models ------------------------------------------------------------------------------


def keep_output(call: Call, region: Region, output: Any, bases: Sequence[Tensor] | None = None) -> None:
    """Keep the tensors of ``output``, less ``bases`` where such are given, as the region's newest anchors."""
    form, tensors = Form.of(output)
    why = None
    if not tensors:
        why = f"is a {type(output).__name__}, so it is computed. Ask for tensors."
    elif bases is not None and [t.shape for t in tensors.values()] != [b.shape for b in bases]:
        why = (
            "is of another shape than what it is compared with, so it is computed. Where the scope allows it, store "
            "the output itself (residual=False)."
        )
    if why is not None:
        call.engine.notices.say("outputs", f"What stands for {region.id} {why}")
        return
    call.expert.forms[region.id] = form
    call.session.make_room(call.place(region))
    for number, (position, tensor) in enumerate(tensors.items()):
        value = tensor.detach() if bases is None else tensor.detach() - bases[number]
        own = bases is not None or call.engine.stored(value, tensor.dtype) is not value
        main = region.first if region.part and is_main(call, tensor.shape) else None
        keep(call, region, str(position), value if own else value.clone(), tensor.dtype, main)


def recall_output(call: Call, region: Region, bases: Sequence[Tensor] | None = None) -> Any:
    """The region's output as predicted from its anchors, on top of ``bases``; None where it has to be computed."""
    held = anchors_in_form(call, region)
    if held is None or (bases is not None and [b.shape for b in bases] != [h.values[0].shape for h in held.values()]):
        return None
    form, values = call.expert.forms[region.id], {}
    for number, (position, empty) in enumerate(form.tensors.items()):
        history = held[str(position)]
        like = empty if bases is None else bases[number].to(empty.dtype)
        main = region.first if region.part and is_main(call, history.values[0].shape) else None
        values[position] = forecast(call, region, history, like, main, onto=bases is not None)
    call.begun.add(region.id)
    return form.filled(values)


def anchors_in_form(call: Call, region: Region) -> dict[str, History] | None:
    """The anchors of an output that can be filled in: one history for each tensor in it."""
    form, held = call.expert.forms.get(region.id), call.session.anchors_of(call.place(region))
    return held if form is not None and list(map(str, form.tensors)) == list(held) else None


def is_main(call: Call, shape: torch.Size) -> bool:
    """Whether a module's output is laid out as the main stream of its block, and as no other stream of it."""
    return call.shapes[:1] == [shape] and shape not in call.shapes[1:]
