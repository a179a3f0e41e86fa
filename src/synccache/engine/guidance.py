"""Classifier-free guidance as something to fill in: by how much a branch's output differs from the deciding one's.

On a skipped step the deciding branch (the conditional one) runs with its conditioning live; the others are its output
plus a forecast of the difference, and their transformer isn't called at all.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .call import Call
from .history import add_forecast
from .structure import put_together, take_apart
from .types import Context, Region

if TYPE_CHECKING:
    from .engine import Engine


def over(branch: Hashable) -> Region:
    """Stands for what another branch's output adds to that of ``branch``."""
    return Region(f"guidance over {branch}", ())


def fill(engine: Engine, call: Call) -> Any:
    """The output of a branch that isn't run on this step; None where it has to run."""
    forecaster, session, place = engine.method.guidance, call.session, call.position
    if forecaster is None or place is None or call.step is None or session.lead is None or not guided(engine, call):
        return None
    decision, (expert, branch, template, lead) = session.shared, session.lead
    if decision is None or not decision.fills or expert != call.expert or place.new_conditioning or place.windowed:
        return None
    region, since = over(branch), session.computed_at.get(None, 0)
    held = session.anchors_of(expert, place.branch, region)
    if len(held) != len(lead) or not session.ready(expert, place.branch, [region], since):
        return None
    leaves = {}
    for position, value in enumerate(lead):
        anchors = held[str(position)].anchors
        if anchors[0].value.shape != value.shape:
            return None
        weights = forecaster.weights([a.time for a in anchors], float(call.step.index), Context(call.step))
        leaves[position] = add_forecast(value, [a.value for a in anchors], weights)
    call.decision = replace(decision, reason="guidance", error=None, total=None)
    call.begun.add(region.id)
    return put_together(template, leaves)


def keep(engine: Engine, call: Call, output: Any) -> None:
    """Keep the deciding branch's output for those that follow it, and a computed follower's difference from it."""
    forecaster, session, place = engine.method.guidance, call.session, call.position
    if forecaster is None or place is None or call.decision is None or not engine.shared:
        return
    leaves: list[Any] = []
    template = take_apart(output, leaves)
    if not all(isinstance(leaf, Tensor) for leaf in leaves):
        text = f"The model returns a {type(output).__name__}, so every branch of a step is run. Ask for tensors."
        engine.notices.say("guidance", text)
        return
    if call.decides:
        session.lead = (call.expert, place.branch, template, [leaf.clone() for leaf in leaves])
    elif session.lead is not None and session.lead[0] == call.expert and not call.begun:
        _, branch, _, lead = session.lead
        if [leaf.shape for leaf in leaves] != [leaf.shape for leaf in lead]:
            return
        for position, (leaf, value) in enumerate(zip(leaves, lead, strict=True)):
            history = session.history(call.expert, place.branch, over(branch), str(position), forecaster.anchors)
            history.make_room()
            history.push(float(place.step), engine.stored(leaf - value, leaf.dtype))


def guided(engine: Engine, call: Call) -> bool:
    """Whether guidance fills in the call's output: its branch neither decides nor is named ``cond``."""
    named = call.position is not None and call.position.branch == "cond"
    return engine.method.guidance is not None and engine.shared and not call.decides and not named
