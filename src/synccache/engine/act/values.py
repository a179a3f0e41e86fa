"""A region's values: kept when it is computed, forecast when it is filled in. All regions do both in this one way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...core.sums import add_weighted
from ...core.types import Context, Forecaster, Region, Stored
from ..store.anchors import History
from ..store.rows import RowHistory
from .call import Call


def keep(call: Call, region: Region, stream: str, value: Tensor, dtype: torch.dtype, main: bool, own: bool) -> None:
    """Keep ``value`` as the newest anchor of a region's stream; ``dtype`` is the model's own.

    ``main``: it is laid out as the first block's main stream, so that it is known where the video tokens lie; ``own``:
    nobody else holds it (a sum).
    """
    engine, step = call.engine, call.step
    forecaster = region.forecaster or engine.method.forecaster
    kept = value.to(device=engine.storage_device or value.device, dtype=engine.storage_dtype or dtype)
    kept = kept.clone() if kept is value and not own else kept
    if engine.on_store is not None:
        run = (call.session.request, call.session.clock.run)
        show = lambda: video_tokens(call, kept, region.first) if main else (kept, None)  # noqa: E731
        shown = Stored(region, stream, kept, step, call.branch.name, call.decides, run, main, show)
        if not engine.on_store(shown):
            return
    held = call.session.held.setdefault(call.place(region), {})
    if stream not in held:
        held[stream] = (RowHistory if region.rows else History)(forecaster.anchors)
    held[stream].push(float(step.index), kept)


def forecast(call: Call, region: Region, history: History, value: Tensor, main: bool, *, onto: bool = True) -> Tensor:
    """``value`` plus what the forecaster predicts from the anchors; where not ``onto`` it, the prediction alone, and
    ``value`` only says dtype and device."""
    forecaster = region.forecaster or call.engine.method.forecaster
    split, weights, values = forecaster.split, weigh(call, forecaster, history), history.values
    if not onto:
        newest = values[0]
        if split is None and is_newest(weights) and newest.dtype is value.dtype and newest.device == value.device:
            return newest.clone()
        value = value.expand(newest.shape)
    if split is None:
        return add_weighted(value, values, weights, onto)
    context = Context(call.step, call.seen)
    if main:
        anatomy = call.expert.structure.anatomy
        grid = anatomy.grid(call.bound) if anatomy.grid is not None else None
        mask, first = video_tokens(call, value, region.first)[1], anatomy.first_token(region.first, call.bound)
        context = replace(context, mask=mask, grid=grid, offset=first, video=True)
    elif call.engine.mask.known:
        context = replace(context, mask=value.new_zeros(1, 0))  # nothing in this stream is the person's
    return split.add(value, values, weights, context, onto)


def weigh(call: Call, forecaster: Forecaster, history: History) -> Any:
    """What each anchor counts in this step's forecast: a number, or one for each row; of a split [groups, anchors]."""
    key = (id(forecaster), history.key)
    weights: Any = call.weights.get(key)
    if weights is None:
        context = Context(call.step, call.seen, gram=history.gram() if forecaster.gram else None)
        rule = lambda times: forecaster.weights(times, float(call.step.index), context)  # noqa: E731
        split = forecaster.split is not None
        weights = rule(history.times) if split else history.factors(lambda times: rule(times)[0].tolist())
        if not forecaster.gram:
            call.weights[key] = weights
    return weights


def is_newest(weights: Sequence[Any]) -> bool:
    """Whether they give the newest anchor itself."""
    return not isinstance(weights[0], Tensor) and weights[0] == 1 and not any(weights[1:])


def video_tokens(call: Call, stream: Tensor, index: int) -> tuple[Tensor, Tensor | None]:
    """The video tokens [B, V, D] of block ``index``'s main stream [B, S, D], and their mask weights [1 or B, V]."""
    anatomy = call.expert.structure.anatomy
    grid = anatomy.grid(call.bound) if anatomy.grid is not None else None
    if grid is not None and stream.ndim == 3:
        first = anatomy.first_token(index, call.bound)
        stream = stream[:, first : first + grid[0] * grid[1] * grid[2]]
    return stream, call.engine.mask.on(stream, grid, call.engine.notices)
