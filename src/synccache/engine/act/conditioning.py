"""Whether what the blocks are conditioned on has changed since a branch was last computed.

What enters between the blocks is live on every step; what the blocks take in themselves (a prompt) is not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..place.conditioning import PROMPT, Prints
from .call import Call

# Arguments of blocks that carry the time embedding, the likeliest first; and names of others that move with the step.
SIGNALS = ("temb", "e", "vec", "timestep_embedding", "modulation", "emb", "adaln_input", "temb_mod_img")
_MOVING = re.compile(r"time|temb|t_emb|mod|sigma|adaln|vec|^(e|emb|t)$")


def see_inputs(call: Call, index: int, bound: Mapping[str, Any]) -> None:
    """The first block (``index``) is called with ``bound`` arguments: ask for numbers of them, if they are wanted."""
    asked = [call.branch] if call.located else call.session.clock.branches
    known = bool(asked) and all(b.inputs is not None for b in asked)
    if known and not (call.reaching if call.located else call.prints is not None):
        return
    structure = call.expert.structure
    live = {*list(structure.streams(index))[:1], *structure.blocks[index].added}
    others = {n: v for n, v in bound.items() if n not in live and not _MOVING.search(n)}
    samples = call.latents.batch
    call.inputs = Prints({n: [v] for n, v in others.items() if isinstance(v, Tensor) and v.numel() > samples})
    if call.inputs.unread is not None:
        call.want(call.inputs.unread, call.inputs.arrive)


def has_changed(call: Call) -> bool:
    """Whether the branch is conditioned on something else than before; then it has to be computed."""
    branch, changed = call.branch, call.reaching
    if call.new_batch:  # for which it is repeated; and nothing that was stored is left
        branch.inputs = call.inputs
        return False
    before, branch.inputs = branch.inputs, branch.inputs or call.inputs
    if any(r.value == "absorbed" or r is call.expert.whole for r in call.expert.regions or ()):  # then nothing is live
        return bool(call.changed)
    if call.inputs is None or before is None or not changed:
        return bool(changed) and call.inputs is None  # no block was called yet
    flag = bool(changed & call.conditioning.plain.keys())  # which may say anything to the blocks
    if before.values == call.inputs.values and not flag and _enters_between(call, changed):
        return False
    branch.inputs = call.inputs
    return True


def _enters_between(call: Call, names: frozenset[str]) -> bool:
    """Whether what the first block doesn't show enters between the blocks: as audio does where something was seen to,
    and ControlNets' residuals. Else it is in the time embedding, or joins the stream later on."""
    if any(PROMPT.search(n) or "guidance" in n or n.endswith("_ids") for n in names):
        return False
    anatomy = call.expert.structure.anatomy
    unsaid = anatomy.sites != () and not anatomy.live  # where it is said what enters between, nothing else does
    return unsaid or all("control" in n for n in names)
