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
from .outputs import recall, remember
from .structure import take_apart
from .types import Region

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
    decision, (expert, branch, lead) = session.shared, session.lead
    if decision is None or not decision.fills or expert != call.expert or place.new_conditioning or place.windowed:
        return None
    call.seen = replace(call.seen, ratios=session.shared_ratios)
    region, since = over(branch), session.computed_at.get(None, 0)
    if not session.ready(expert, place.branch, [region], since):
        return None
    output = recall(engine, call, region, forecaster, lead)
    if output is not None:
        call.decision = replace(decision, reason="guidance", error=None, total=None)
    return output


def keep(engine: Engine, call: Call, output: Any) -> None:
    """Keep the deciding branch's output for those that follow it, and a computed follower's difference from it."""
    forecaster, session, place = engine.method.guidance, call.session, call.position
    if forecaster is None or place is None or call.decision is None or not engine.shared:
        return
    leaves: list[Any] = []
    take_apart(output, leaves)
    if not all(isinstance(leaf, Tensor) for leaf in leaves):
        text = f"The model returns a {type(output).__name__}, so every branch of a step is run. Ask for tensors."
        engine.notices.say("guidance", text)
        return
    if call.decides:
        session.lead = (call.expert, place.branch, [leaf.clone() for leaf in leaves])
    elif session.lead is not None and session.lead[0] == call.expert and not call.begun:
        remember(engine, call, over(session.lead[1]), output, forecaster, session.lead[2])


def guided(engine: Engine, call: Call) -> bool:
    """Whether guidance fills in the call's output: its branch neither decides nor is named ``cond``."""
    named = call.position is not None and call.position.branch == "cond"
    return engine.method.guidance is not None and engine.shared and not call.decides and not named
