"""What a skipped step costs, as it is timed, and whether the wanted speed-up can be had."""

from __future__ import annotations

import torch

from .call import Call
from .ranks import agree, group_for, several_processes

CAPPED = (
    "speed={:g} can't be had here: a skipped step costs {:.0%} of a computed one, so with {} of {} steps computed, the "
    "fewest that are, a run is {:.1f} times faster. Ask for that at most, or for another method."
)


def note_time(call: Call, skipped: bool, ends: bool) -> None:
    """Time a call that is over, and let the pace know what a skipped step costs.

    Where several processes run, each has times of its own. Those that work on one sample take the same steps, so they
    agree on the cost, once at the end of a run; others keep to the estimate, since they may have to agree unbeknown.
    """
    engine, session, place = call.engine, call.session, call.position
    assert place is not None
    whose = (session.request, session.window)
    engine.timing.stop(call.mark, call.device, whose, (place.run, place.step), skipped)
    if ends:
        engine.timing.close(whose)
    pace, total = engine.pace, session.total
    if pace is None or total is None:
        return
    cost = engine.timing.cost
    if several_processes():
        group = group_for(call)
        if not ends or group is None:
            return
        timed = torch.tensor([cost or 0.0, float(cost is not None)], device=call.device)
        summed, count = agree(timed, group).tolist()
        cost = summed / count if count else None
    if cost is None:
        return
    pace.cost = cost
    if ends and not pace.is_reached(total):
        highest = pace.highest(total)
        engine.notices.say("speed", CAPPED.format(pace.speed, cost, pace.steps(total), total, highest))
