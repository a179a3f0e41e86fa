"""Which profiles a method uses: the user's, else those that the package has of the very model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.anatomy import Anatomy
from ..errors import InputError
from ..methods import RECIPES
from ..methods.names import listed, profiled
from ..methods.remedy import ProfileNeeded
from .plan import SHIPPED, Plan
from .profile import Profile
from .shipped import shipped_profile


def opened(given: Any) -> list[Profile]:
    """The profiles among a setting's value: one or several of them, or of their paths; none of None."""
    return [one if isinstance(one, Profile) else Profile.load(one) for one in listed(given)]


def parted(profiles: Sequence[Profile], settings: Mapping[str, Any]) -> tuple[list[Profile], list[Profile]]:
    """Profiles that hold a plan, and the others, of what a method was given under ``profile``.

    All are taken for plans by a method that has the setting ``plan`` and no ``profile`` of its own.
    """
    plans = [one for one in profiles if "profile" not in settings or Plan.of(one.tensors)]
    return plans, [one for one in profiles if one not in plans]


def chosen_plan(given: Sequence[Profile], anatomy: Anatomy, scheduler: str | None) -> Plan | None:
    """The plan that the user's profile holds, else a shipped one that fits, if any.

    Raises:
        InputError: the user's holds none, or is of another model or scheduler; or there are two.
    """
    if len(given) > 1:
        raise InputError(f"{len(given)} profiles with segments to merge were given. Give one.")
    profile = given[0] if given else shipped_profile(SHIPPED, anatomy, scheduler)
    if profile is None:
        return None
    profile.check(anatomy, scheduler=scheduler)
    plan = Plan.of(profile.tensors)
    if plan is None:
        raise ProfileNeeded(f"The profile of {profile.method!r} tells nothing of segments.", SHIPPED)
    return plan


def chosen_profiles(given: Sequence[Profile], method: str, anatomy: Anatomy, scheduler: str | None) -> list[Profile]:
    """One for each method that ``method`` takes a profile of: the user's, else a shipped one that fits, if any.

    Raises:
        InputError: the user's is of another method, model or scheduler; or there are two of one method.
    """
    wanted, found = profiled(method, RECIPES), {}
    for profile in given:
        profile.check(anatomy, method, scheduler)
        if profile.method not in wanted:
            raise InputError(f"{method!r} takes no part of {profile.method!r} that its profile serves. Leave it out.")
        if profile.method in found:
            raise InputError(f"Two profiles of the method {profile.method!r} were given. Give one of each method.")
        found[profile.method] = profile
    for name in wanted:
        shipped = None if name in found else shipped_profile(name, anatomy, scheduler)
        if shipped is not None:
            found[name] = shipped
    return list(found.values())
