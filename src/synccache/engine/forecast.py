"""A region's missing value: the forecaster's weights over its anchors, summed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from .call import Call
from .history import History, add_forecast
from .types import Context, Forecaster

if TYPE_CHECKING:
    from .engine import Engine


def forecast(
    engine: Engine, call: Call, main: int | None, value: Tensor, history: History, *, onto: bool = True,
    forecaster: Forecaster | None = None,
) -> Tensor:  # fmt: skip
    """``value`` plus what the forecaster predicts from the anchors; the prediction alone where not ``onto`` it.

    ``main``: the block whose main stream this is, so that it is known where the video tokens lie; None for others.
    """
    forecaster = forecaster or engine.method.forecaster
    split, times = forecaster.split, history.times
    assert call.step is not None
    context = Context(call.step, call.seen)
    if split is not None and main is not None:
        anatomy = engine.structures[call.expert].anatomy
        grid = anatomy.grid(call.bound) if anatomy.grid is not None else None
        mask = engine.video_tokens(call, value, main)[1]
        first = anatomy.first_token(main, call.bound)
        context = replace(context, mask=mask, grid=grid, offset=first, video=True)
    elif split is not None and engine.mask.known:
        context = replace(context, mask=value.new_zeros(1, 0))  # nothing in this stream is the person's
    key = (id(forecaster), times)
    if forecaster.gram:
        weights = forecaster.weights(times, float(call.step.index), replace(context, gram=history.gram()))
    elif key in call.weights:
        weights = call.weights[key]
    else:
        weights = call.weights[key] = forecaster.weights(times, float(call.step.index), context)
    values = [a.value for a in history.anchors]
    if split is None:
        return add_forecast(value, values, weights, onto=onto)
    return split.add(value, values, weights, context, onto)
