"""From what a user asks ``apply`` for to a method with complete settings, profiles and plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..core.anatomy import Anatomy
from ..core.method import Method
from ..core.pace import Pace, skipped_cost, speed_of
from ..core.types import innermost
from ..errors import InputError
from ..gates import Budget
from ..methods import complete, find
from ..methods.names import is_composed
from ..methods.settings import COMMON, unknown
from ..methods.values import check
from .agreed import agreed
from .chosen import chosen_plan, chosen_profiles, opened, parted
from .plan import Plan


@dataclass(frozen=True)
class Built:
    """A method for one model.

    Attributes:
        pace: the wanted speed-up, if there is one.
        plan: of the segments to merge; None: there is none.
        settings: complete, the engine's included; ``plan`` and ``profile`` as the user gave them.
    """

    method: Method
    plan: Plan | None
    settings: Mapping[str, Any]
    pace: Pace | None = None


def build(method: str | Method, given: Mapping[str, Any], anatomy: Anatomy, scheduler: str | None) -> Built:
    """Make a method for a model.

    Args:
        method: a name, also a composed one, or a ``Method`` composed by hand.
        given: the settings that the user gave.
        scheduler: the class name of the pipeline's, if there is one.

    Raises:
        InputError: the method or a setting is unknown, a value can't be used, or a profile doesn't belong here.
    """
    if isinstance(method, Method):
        return _by_hand(method, given, anatomy, scheduler)
    if not isinstance(method, str):
        raise InputError(f"A method is a name or a Method, not a {type(method).__name__}.")
    recipe, plan = find(method), None
    settings = complete(recipe, given, anatomy.name, len(anatomy.blocks))
    as_given: dict[str, Any] = {name: given.get(name) for name in ("plan", "profile") if name in settings}
    profiles = opened(settings.get("profile"))
    if "plan" in recipe.settings:
        plans, profiles = parted(profiles, recipe.settings)
        settings["plan"] = plan = chosen_plan([*opened(settings["plan"]), *plans], anatomy, scheduler)
    if "profile" in recipe.settings:
        found = chosen_profiles(profiles, recipe.name, anatomy, scheduler)
        settings, found = agreed(recipe.name, settings, given, found)
        settings["profile"] = found if is_composed(recipe.name) else next(iter(found), None)
    if settings["speed"] is None:
        return Built(recipe.build(settings), plan, {**settings, **as_given})
    pace = Pace(speed_of(settings["speed"]), skipped_cost(len(anatomy.blocks), len(anatomy.sites or ())))
    counted = "computed_steps" in settings
    off: dict[str, Any] = {name: None for name in ("threshold", "computed_steps") if name in settings}
    paced = recipe.build({**settings, **off, **({"computed_steps": pace} if counted else {})})
    if paced.guidance is not None:
        pace.cost /= 2  # one of two branches runs
    return Built(paced if counted else _paced(paced, pace), plan, {**settings, **off, **as_given}, pace)


def _paced(method: Method, pace: Pace) -> Method:
    """``method`` on as many evenly spread steps as the pace takes.

    Raises:
        InputError: it skips no step.
    """
    if not innermost(method.gate).skips:
        raise InputError(f"The method {method.name!r} skips no step, so it can't be given a speed. Choose another one.")
    return replace(method, gate=Budget(method.gate, pace))


def _by_hand(method: Method, given: Mapping[str, Any], anatomy: Anatomy, scheduler: str | None) -> Built:
    """A method that the user composed takes the engine's settings and a plan."""
    valid = {**COMMON, "plan": None}
    for name, value in given.items():
        if name not in valid:
            raise InputError(unknown("setting", name, valid, "beside a composed Method"))
        check(name, value)
    plans = opened(given.get("plan"))
    plan = chosen_plan(plans, anatomy, scheduler) if plans else None
    if given.get("speed") is None:
        return Built(method, plan, {**valid, **given})
    pace = Pace(speed_of(given["speed"]), skipped_cost(len(anatomy.blocks), len(anatomy.sites or ())))
    return Built(_paced(method, pace), plan, {**valid, **given}, pace)
