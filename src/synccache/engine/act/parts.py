"""A module inside a block: run it, keep its output, or give back what it would have given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ...core.anatomy import original_class
from ...core.form import put_together, take_apart
from ...core.types import Region
from ...errors import UnsupportedModel
from .call import Call
from .values import anchors_in_form, keep_output, recall_output


def run_part(call: Call, where: tuple[int, str], run: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
    """A module is called: ``where`` is the index of its block, and its name in that."""
    region = call.expert.parts.get(where)
    if call.decision is None or region is None or call.alone or region.id in call.expert.refused:
        return run(*args, **kwargs)
    if where in call.called_parts:
        _refuse(call, region, *where)
        return run(*args, **kwargs)
    call.called_parts.add(where)
    filled = call.is_filled(region)
    if where[1] in region.feeding:
        return _feed(call, region, where[1], filled, run, args, kwargs)
    output = recall_output(call, region) if filled else None
    if output is None:
        output = run(*args, **kwargs)
        if not call.session.clock.windowed:
            keep_output(call, region, output)
    return output


def _refuse(call: Call, region: Region, index: int, part: str) -> None:
    """The module is called for the second time in one call of the model: it isn't filled in any more.

    Raises:
        UnsupportedModel: its first call was filled in already.
    """
    block = original_class(call.expert.structure.anatomy.blocks[index]).__name__
    text = f"{part} of block {index} ({block}) ran twice in one call, so it can't be cached."
    if region.id in call.begun:
        raise UnsupportedModel(f"{text} Choose a method that leaves out whole blocks.")
    call.expert.refused.add(region.id)
    call.engine.notices.say("part twice", f"{text} It is computed on every step.")


def _feed(
    call: Call, region: Region, part: str, filled: bool, run: Callable[..., Any], args: tuple, kwargs: dict[str, Any]
) -> Any:
    """A module that feeds ``region.part`` alone is called: zeros that take no memory, where that one is filled in."""
    unheeded = call.session.unheeded
    expert, branch, _ = call.place(region)
    key = (expert, branch, f"{region.first} {part}")
    if filled and key in unheeded and anchors_in_form(call, region):
        return unheeded[key]
    output = run(*args, **kwargs)
    leaves: list[Any] = []
    template = take_apart(output, leaves)
    zeros = [x.new_zeros(()).expand(x.shape) if isinstance(x, Tensor) else x for x in leaves]
    unheeded[key] = put_together(template, dict(enumerate(zeros)))
    return output
