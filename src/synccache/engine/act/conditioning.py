"""Whether what the blocks are conditioned on has changed since a branch was last computed.

What enters between the blocks is live on every step; what the blocks take in themselves (a prompt) is not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..place.conditioning import Prints
from .call import Call

# Arguments of blocks that carry the time embedding, the likeliest first; and names of others that move with the step.
SIGNALS = ("temb", "e", "vec", "timestep_embedding", "modulation", "emb", "adaln_input", "temb_mod_img")
_MOVING = re.compile(r"time|temb|t_emb|mod|sigma|adaln|vec|^(e|emb|t)$")


def see_inputs(call: Call, index: int, bound: Mapping[str, Any]) -> None:
    """The first block (``index``) is called with ``bound`` arguments: ask for numbers of them, if they are wanted."""
    place, branches = call.position, call.session.clock.branches
    if place is not None:
        wanted = place.branch.inputs is None or bool(_open(call))
    else:
        known = any(b.is_exactly(call.conditioning) for b in branches)
        wanted = not known or any(b.inputs is None for b in branches)
    if not wanted:
        return
    main = next(iter(call.expert.structure.streams(index)), None)
    others = {n: v for n, v in bound.items() if n != main and not _MOVING.search(n)}
    tensors = [v for v in others.values() if isinstance(v, Tensor) and v.numel() > call.latents.batch]
    call.inputs = Prints(tensors)
    if call.inputs.unread is not None:
        call.want(call.inputs.unread, call.inputs.arrive)


def has_changed(call: Call) -> bool:
    """Whether the branch is conditioned on something else than before; then it has to be computed."""
    assert call.position is not None
    branch, changed = call.position.branch, _open(call)
    if call.expert.whole is not None:  # then nothing is live
        return bool(call.position.changed) and _values_differ(call, call.position.changed)
    if call.inputs is None:
        return False
    before, branch.inputs = branch.inputs, branch.inputs or call.inputs
    flag = bool(changed & call.conditioning.plain.keys())  # which may say anything to the blocks
    if before is None or not changed or (before.rows == call.inputs.rows and not flag):
        return False
    branch.inputs = call.inputs
    return True


def _open(call: Call) -> frozenset[str]:
    """Names of changed arguments that may reach the blocks."""
    assert call.position is not None
    return call.position.changed - set(call.expert.structure.anatomy.live)


def _values_differ(call: Call, names: frozenset[str]) -> bool:
    """Whether one of these arguments of the model has another value than the branch was last computed with."""
    assert call.position is not None
    branch, layout = call.position.branch, call.conditioning.layout
    rows, known = call.prints and call.prints.rows, branch.prints and branch.prints.rows
    if rows is None or known is None:
        return True

    def values(name: str, rows: list[Any], layout: Mapping[str, tuple[int, list[Any]]]) -> Any:
        row, forms = layout.get(name, (0, None))
        return forms and (forms, rows[row : row + len(forms)])

    same = all(values(n, rows, layout) == values(n, known, branch.layout) is not None for n in names)
    if not same:
        branch.prints, branch.layout = call.prints, layout
    return not same
