"""Regions whose value is an output: of a module inside a block, of the whole model, of another guidance branch's pass.

With guidance as a region, the leading branch (the conditional one) runs on a skipped step with its conditioning live;
the others are its output plus a forecast of the difference, and their transformer isn't called at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...core.advice import ORDER
from ...core.anatomy import original_class
from ...core.form import Form
from ...core.types import Region
from ...errors import UnsupportedModel
from ..place.branch import Branch
from ..store.anchors import History
from .call import Call, Run
from .values import forecast, keep


def bases_of(call: Call, region: Region) -> Sequence[Tensor] | None:
    """What the region's value is added to: the leading branch's output, the latent, or nothing."""
    if region.value == "guidance":
        return call.session.lead[2] if call.session.lead is not None else None
    return call.latents.tensors if region.value == "residual" else None


def keep_output(call: Call, region: Region, output: Any) -> None:
    """Keep the tensors of ``output``, less the bases, as the region's newest anchors."""
    if call.session.clock.windowed:
        return
    form, tensors = Form.of(output)
    why, bases = None, bases_of(call, region)
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
        keep(call, region, str(position), value, tensor.dtype, is_main(call, region, tensor.shape), bases is not None)


def recall_output(call: Call, region: Region) -> Any:
    """The region's output as predicted from its anchors; None where it has to be computed."""
    histories, bases = anchors_in_form(call, region), bases_of(call, region)
    if histories is None or (bases is not None and [b.shape for b in bases] != [h.values[0].shape for h in histories]):
        return None
    form, values = call.expert.forms[region.id], {}
    for number, ((position, empty), history) in enumerate(zip(form.tensors.items(), histories, strict=True)):
        like = empty if bases is None else bases[number].to(empty.dtype)
        main = is_main(call, region, history.values[0].shape)
        values[position] = forecast(call, region, history, like, main, onto=bases is not None)
    call.begun.add(region.id)
    return form.filled(values)


def anchors_in_form(call: Call, region: Region) -> list[History] | None:
    """The anchors of an output that can be filled in: one history for each tensor in it."""
    form, held = call.expert.forms.get(region.id), call.session.anchors_of(call.place(region))
    if form is None or len(held) != len(form.tensors):
        return None
    histories = [held.get(str(position)) for position in form.tensors]
    return None if None in histories else histories  # type: ignore[return-value]


def is_main(call: Call, region: Region, shape: torch.Size) -> bool:
    """Whether a module's output is laid out as the main stream of its block, and as no other stream of it."""
    return region.part != "" and call.shapes[:1] == [shape] and shape not in call.shapes[1:]


def run_part(call: Call, where: tuple[int, str], run: Run, args: tuple, kwargs: dict[str, Any]) -> Any:
    """A module is called: ``where`` is the index of its block, and its name in that.

    Raises:
        UnsupportedModel: it is called twice in one call of the model, and was filled in the first time.
    """
    expert, (index, part) = call.expert, where
    region = expert.parts.get(where)
    if call.decision is None or region is None or call.alone or region.id in expert.refused:
        return run(*args, **kwargs)
    if where in call.called_parts:
        block = original_class(expert.structure.anatomy.blocks[index]).__name__
        text = f"{part} of block {index} ({block}) ran twice in one call, so it can't be cached."
        if region.id in call.begun:
            raise UnsupportedModel(f"{text} Choose a method that leaves out whole blocks.")
        expert.refused.add(region.id)
        call.engine.notices.say("part twice", f"{text} It is computed on every step.")
        return run(*args, **kwargs)
    call.called_parts.add(where)
    filled, feeds, unheeded = call.is_filled(region), part in region.feeding, call.session.unheeded
    key = (call.place(region), part)
    if feeds and filled and key in unheeded and anchors_in_form(call, region):
        return unheeded[key]
    output = recall_output(call, region) if filled and not feeds else None
    if output is None:
        output = run(*args, **kwargs)
        if feeds:  # of what feeds another alone, zeros that take no memory stand in where that one is filled in
            form, tensors = Form.of(output)
            unheeded[key] = form.filled({p: t.new_zeros(()).expand(t.shape) for p, t in tensors.items()})
        else:
            keep_output(call, region, output)
    return output


def over(call: Call, lead: Branch) -> Region:
    """What other branches' outputs add to that of ``lead``."""
    assert call.expert.guidance is not None
    return replace(call.expert.guidance, id=f"guidance over {lead.name}")


def is_told(call: Call) -> bool:
    """Whether the call's output can be told from that of the branch that led this step."""
    lead = call.session.lead
    if call.expert.guidance is None or not call.engine.shared or call.decides or lead is None:
        return False
    ordered = lead[1].is_conditional(call.branch)
    if ordered is None:  # with nothing between the blocks, nothing would be stale that is live otherwise
        ordered = not call.expert.structure.anatomy.sites
    if not ordered:
        call.engine.notices.say("order of branches", ORDER)
    return ordered


def fill_pass(call: Call) -> Any:
    """The output of a branch that isn't run on this step; None where it has to run."""
    session = call.session
    if call.expert.guidance is None or not call.located or session.shared is None or not session.shared.fills:
        return None
    if not is_told(call) or session.lead is None or session.clock.windowed or call.reaching:
        return None
    expert, lead, _ = session.lead
    region, since = over(call, lead), session.computed_at.get(None, 0)
    if expert != call.expert.index or not session.ready(call.place(region), since):
        return None
    call.seen = replace(call.seen, ratios=session.ratios)
    output = recall_output(call, region)
    if output is not None:
        call.decision = replace(session.shared, reason="guidance", error=None, total=None)
    return output


def keep_pass(call: Call, output: Any) -> None:
    """Keep the leading branch's output for those that follow it, and a computed follower's difference from it."""
    session, expert = call.session, call.expert
    if expert.guidance is None or not call.engine.shared or session.clock.windowed:
        return
    form, tensors = Form.of(output)
    if form.others:
        text = f"The model returns a {type(output).__name__}, so every branch of a step is run. Ask for tensors."
        call.engine.notices.say("guidance", text)
    elif call.decides:
        session.lead = (expert.index, call.branch, [t.detach().clone() for t in tensors.values()])
    elif call.alone and not call.begun and session.lead is not None and session.lead[0] == expert.index:
        keep_output(call, over(call, session.lead[1]), output)
