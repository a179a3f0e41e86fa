"""Guidance: other branches of a step, told from the leading one by how much their outputs differ.

On a skipped step the leading branch (the conditional one) runs with its conditioning live; the others are its output
plus a forecast of the difference, and their transformer isn't called at all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...core.form import Form
from ...core.types import Region
from ..place.branch import Branch
from .call import Call
from .locate import is_conditional
from .values import keep_output, recall_output

ORDER = (
    "Other guidance branches are told from the conditional one, and here it doesn't come first, or nothing tells which "
    "one it is. So each is run, its conditioning live. Call the conditional one first, and name them: "
    'handle.at(branch="cond"), handle.at(branch="uncond").'
)


def guidance_id(lead: Branch) -> str:
    """Stands for what other branches' outputs add to that of ``lead``."""
    return f"guidance over {lead.name}"


def _over(call: Call, lead: Branch) -> Region:
    assert call.expert.guidance is not None
    return replace(call.expert.guidance, id=guidance_id(lead))


def is_told(call: Call) -> bool:
    """Whether the call's output can be told from that of the branch that led this step."""
    lead = call.session.lead
    if call.expert.guidance is None or not call.engine.shared or call.decides or lead is None:
        return False
    ordered = is_conditional(lead[1], call.branch)
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
    if not is_told(call) or session.clock.windowed or call.changed - set(call.expert.structure.anatomy.live):
        return None
    assert session.lead is not None
    expert, lead, tensors = session.lead
    region, since = _over(call, lead), session.computed_at.get(None, 0)
    if expert != call.expert.index or not session.ready(call.place(region), since):
        return None
    call.seen = replace(call.seen, ratios=session.ratios)
    output = recall_output(call, region, tensors)
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
        keep_output(call, _over(call, session.lead[1]), output, session.lead[2])
