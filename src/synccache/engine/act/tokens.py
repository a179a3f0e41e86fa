"""A step on which some of the tokens are computed: blocks run on their rows, the others' are filled in.

Between the blocks the whole stream flows: the rows of tokens that aren't computed get what their region has added when
they were, so that what the model does between the blocks sees whole frames. What the model returns is taken from it
where tokens were computed; elsewhere it is forecast from what it returned there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...core.form import Form
from ...core.groups import Groups, put_, take, to_tokens, to_video
from ...core.types import Region
from ...errors import UnsupportedModel
from ..attach.hook import bring_weights
from .attention import KeysAndValues, attended
from .call import Call, Run
from .rows import Rows
from .values import forecast, keep

RETURNED = Region("output of each token", (), "output", rows=True)


def can_follow(call: Call, groups: Groups, since: int) -> bool:
    """Whether all is there that a call needs to compute some groups' tokens alone."""
    session, anatomy = call.session, call.expert.structure.anatomy
    grid = anatomy.grid(call.bound) if anatomy.grid is not None else None
    batch, tokens = groups.order.shape
    fits = grid is not None and tokens == grid[0] * grid[1] * grid[2] and batch in (1, call.latents.batch)
    return fits and all([session.ready(call.place(r), since) for r in (RETURNED, *map(attended, call.expert.rows))])


def rows_of(call: Call, index: int, args: tuple, kwargs: Mapping[str, Any]) -> Rows | None:
    """The rows that this call computes of block ``index``'s stream; None where it computes none."""
    decision, structure = call.decision, call.expert.structure
    if decision is None or decision.groups is None:
        return None
    total = next(iter(structure.take(index, args, kwargs).values())).shape[1]
    if call.rows is None or call.rows.total != total:
        first = structure.anatomy.first_token(index, call.bound)
        call.rows = Rows(decision.groups, decision.active, first, total)
    return call.rows if call.rows.count else None


def run_whole(call: Call, index: int, run: Run, args: tuple, kwargs: dict[str, Any], tokens: int) -> Any:
    """Compute block ``index`` on all its ``tokens``, and keep their keys and values."""
    return KeysAndValues(call, index, tokens).around(run, args, kwargs)


def run_active(
    call: Call, region: Region, rows: Rows, index: int, run: Run, args: tuple, kwargs: dict[str, Any]
) -> Any:
    """The output of block ``index`` with some rows computed and the others filled in; None where it can't be."""
    structure = call.expert.structure
    (name, given), (_, stream) = (next(iter(f(index, args, kwargs).items())) for f in (structure.take, structure.typed))
    history = call.session.anchors_of(call.place(region)).get(name)
    if history is None or history.values[0].shape != stream.shape or not structure.can_skip(region.members):
        call.engine.notices.say("misfit", f"What was stored for {region.id} doesn't fit this call, so it is computed.")
        return None
    begins = region.id not in call.begun
    call.begun.add(region.id)
    filled = forecast(call, region, history, stream, True) if begins else stream.clone()
    own = take(given, rows.index)
    _add(rows, region, own, -1)
    args, kwargs = rows.arguments(structure, index, own, args, kwargs)
    bring_weights(structure.anatomy.blocks[index])
    output = KeysAndValues(call, index, rows.count, rows).around(run, args, kwargs)
    new = next(iter(structure.given(index, output).values()))
    _add(rows, region, new, 1)
    if index == region.last:
        rows.keep(history, float(call.step.index), rows.sums.pop(region.id))
    call.work += rows.count / rows.total
    return structure.skipped_output(index, {name: put_(filled, rows.index, new)})


def _add(rows: Rows, region: Region, x: Tensor, sign: int) -> None:
    wide = x.detach().to(torch.promote_types(x.dtype, torch.float32))
    held = rows.sums.get(region.id)
    rows.sums[region.id] = wide * sign if held is None else held.add_(wide, alpha=sign)


def returned(call: Call, output: Any) -> Any:
    """What the model gives back: of tokens that weren't computed what they gave when they were, carried on.

    Raises:
        UnsupportedModel: it isn't one tensor with a patch for each token.
    """
    if call.session.clock.windowed:
        return output
    anatomy = call.expert.structure.anatomy
    grid = anatomy.grid(call.bound) if anatomy.grid is not None else None
    form, tensors = Form.of(output)
    position, video = next(iter(tensors.items()), (0, None))
    tokens = None if video is None or grid is None or len(tensors) > 1 else to_tokens(video.detach(), grid)
    if tokens is None or video is None or grid is None:
        found = [list(t.shape) for t in tensors.values()] or type(output).__name__
        raise UnsupportedModel(
            f"{call.engine.method.name!r} moves tokens that aren't computed by what the model returned for them, and "
            f"it returns {found} for a grid of {grid} tokens, where one tensor [B, C, T, H, W] is needed that these "
            "divide (with diffusers: return_dict=False). Choose a method that leaves out whole blocks."
        )
    if not call.begun:
        call.session.make_room(call.place(RETURNED))
        keep(call, RETURNED, "0", tokens, tokens.dtype, False, own=False)
        return output
    history = call.session.anchors_of(call.place(RETURNED))["0"]
    filled = forecast(call, RETURNED, history, tokens.new_empty(()), False, onto=False)
    if call.rows is not None:
        rows = Rows(call.rows.groups, call.rows.active, 0, tokens.shape[1])
        own = take(tokens, rows.index)
        rows.keep(history, float(call.step.index), own)
        filled = put_(filled, rows.index, own)
    return form.filled({position: to_video(filled, grid, video.shape)})
