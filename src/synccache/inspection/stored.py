"""How many tensors a method holds for a guidance branch, counted on real anatomies at its default settings."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from torch import nn

from ..api import cached
from ..engine.anatomy import Anatomy, original_class
from ..engine.handle import Handle
from ..engine.types import Region
from ..errors import InputError
from ..methods.recipe import Recipe
from .models import find_model

COUNTED = ("portrait", "wan2.2-s2v-14b")
# What a method can't do without and nobody can know; how many tensors it holds doesn't depend on it.
GIVEN: dict[str, dict[str, Any]] = {"schedule": {"schedule": [0]}}


def stored_tensors(recipe: Recipe, model: str) -> dict[str, int] | None:
    """What ``recipe`` holds on ``model`` (a name in ``MODELS``) at its default settings.

    ``"anchors"``: stored values of a branch, regions × streams × anchors of the forecaster (of the deciding branch, if
    the others' outputs are filled in instead). ``"guidance"``: stored values of each other branch then; 0 where they
    have anchors like the deciding one. ``"gate"``: what the gate keeps to compare with, once for all branches.

    None where it can't be built on that model with what is shipped: it needs a profile, say.
    """
    if recipe.paper == "control":
        return {"anchors": 0, "guidance": 0, "gate": 0}
    try:
        with cached(without_storage(model), recipe.name, **GIVEN.get(recipe.name, {})) as handle:
            return held(handle)
    except InputError:
        return None


def held(handle: Handle) -> dict[str, int]:
    """The same of an attached method."""
    method, anatomy = handle.method, handle.anatomy
    return {
        "anchors": sum(_streams(anatomy, region) for region in handle.regions) * method.forecaster.anchors,
        "guidance": 0 if method.guidance is None else method.guidance.anchors,
        "gate": sum(watch.before + watch.computed for watch in method.gate.watches.values()),
    }


@lru_cache
def without_storage(model: str) -> nn.Module:
    """The model at full size."""
    return find_model(model).build()


def _streams(anatomy: Anatomy, region: Region) -> int:
    """Tensors in one stored value: outputs of modules and models are one each."""
    if region.part or not region.members:
        return 1
    return len(anatomy.streams.get(original_class(anatomy.blocks[region.first]).__name__, "x"))
