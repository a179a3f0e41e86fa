"""How many tensors a method holds for a guidance branch, counted on real anatomies at its default settings."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from torch import nn

from .. import anatomies
from ..api import cached
from ..core.anatomy import Anatomy, original_class
from ..core.types import Action, Decision, Region, Run, Seen, Step, innermost
from ..errors import InputError, UnsupportedModel
from ..gates.warmup import ASSUMED_STEPS
from ..handle import Handle
from ..methods.recipe import Recipe
from ..profiles import shipped_file
from .models import find_model

COUNTED = ("portrait", "wan2.2-s2v-14b")
# What a method can't do without and nobody can know; how many tensors it holds doesn't depend on it.
GIVEN: dict[str, dict[str, Any]] = {"schedule": {"schedule": [0]}}


def stored_tensors(recipe: Recipe, model: str) -> dict[str, int] | None:
    """What ``recipe`` holds on ``model`` (a name in ``MODELS``) at its default settings.

    ``"anchors"``: stored values of a branch, regions × streams × anchors of the forecaster, or as many as a run
    computes steps if they are fewer (of the deciding branch, if the others' outputs are filled in instead).
    ``"guidance"``: stored values of each other branch then; 0 where they have anchors like the deciding one.
    ``"lead"``: the deciding branch's output of the step, from which the others are told: 1 then.
    ``"gate"``: what the gate keeps to compare with, once for all branches.

    None where it can't be built on that model with what is shipped: it needs a profile, say.
    """
    if recipe.paper == "control":
        return {"anchors": 0, "guidance": 0, "lead": 0, "gate": 0}
    bare = without_storage(model)
    given = GIVEN.get(recipe.name) or shipped(recipe, bare)
    try:
        with cached(bare, recipe.name, **given) as handle:
            return held(handle)
    except (InputError, UnsupportedModel):
        return None


def held(handle: Handle) -> dict[str, int]:
    """The same of an attached method."""
    method, anatomy = handle.method, handle.anatomy
    computed = computed_steps(handle)
    wanted = method.forecaster.anchors
    anchors = sum(_streams(anatomy, r) * min(wanted, computed.get(r.id, wanted)) for r in handle.regions)
    rows = sum(len(r.members) for r in handle.regions if r.rows)  # blocks whose keys and values are kept, too
    return {
        "anchors": anchors + wanted * (2 * rows + bool(rows)),
        "guidance": 0 if method.guidance is None else method.guidance.anchors,
        "lead": int(method.guidance is not None),
        "gate": sum(watch.before + watch.computed for watch in innermost(method.gate).measure.watches.values()),
    }


def computed_steps(handle: Handle) -> dict[str, int]:
    """How many steps of a run compute each region, by the region's id: a forecaster gets no more anchors than that.

    Nothing where the gate looks at the content, or refuses a run of that length (the profile's, else 40 steps).
    """
    gate, rule = handle.method.gate, innermost(handle.method.gate)
    if rule.measure.watches:
        return {}
    timesteps = getattr(rule, "timesteps", ())  # those of a profile
    total = handle.settings.get("steps") or len(timesteps) or ASSUMED_STEPS
    counts = dict.fromkeys((region.id for region in handle.regions), 0)
    try:
        state = gate.init(Run(total, regions=handle.regions))
        for index in range(total):
            step = Step(index, timesteps[index] if index < len(timesteps) else 0.0, total)
            decision, state = gate.decide(state, step, Seen())
            decision = decision if index else Decision(Action.COMPUTE, "first step")
            state = gate.record(state, step, decision, Seen())
            for region in handle.regions:
                counts[region.id] += decision.of(region) is Action.COMPUTE
    except InputError:
        return {}
    return counts


def shipped(recipe: Recipe, model: nn.Module) -> dict[str, Any]:
    """The profile that comes with a model, by name: without storage, nothing says that the weights are those."""
    path = shipped_file(recipe.name, anatomies.find(model)) if "profile" in recipe.settings else None
    return {} if path is None else {"profile": path}


@lru_cache
def without_storage(model: str) -> nn.Module:
    """The model at full size."""
    return find_model(model).build()


def _streams(anatomy: Anatomy, region: Region) -> int:
    """Tensors in one stored value: outputs of modules and models are one each."""
    if region.part or not region.members:
        return 1
    return len(anatomy.streams.get(original_class(anatomy.blocks[region.first]).__name__, "x"))
