"""A method's settings and the profiles that it uses, made to agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError
from ..methods import RECIPES
from ..methods.names import axes, lent_by
from ..methods.remedy import ProfileNeeded
from ..methods.settings import PROFILED
from .profile import Profile


def agreed(
    name: str, settings: Mapping[str, Any], given: Mapping[str, Any], profiles: Sequence[Profile]
) -> tuple[dict[str, Any], list[Profile]]:
    """The settings and the profiles of the method ``name``, without contradictions.

    Some settings say the same as a profile (``blocks``, ``coefficients``, ``ratios``). Such a setting, given by the
    user or a model's default, replaces a shipped profile; the user's own profile replaces a default. Settings that
    change what is learnt (``Recipe.shapes``) take the value that the profile was learnt with.

    Args:
        settings: complete, defaults included.
        given: what the user gave of them.

    Raises:
        InputError: the user gave a setting and a profile that contradict each other.
    """
    settings, kept = dict(settings), []
    for profile in profiles:
        recipe = RECIPES[profile.method]
        own = [n for n in settings if profile.method in {lent_by(name, part) for part in axes(n)}]
        instead = [n for n in PROFILED if n in own and n in recipe.settings and settings[n] is not None]
        if instead and profile.shipped:
            continue
        for setting in instead:
            if given.get(setting) is not None:
                raise InputError(f"Give {setting} or profile, not both: the one takes the place of the other.")
            settings[setting] = None
        for setting in (n for n in recipe.shapes if n in own and n in profile.settings):
            known, asked = profile.settings[setting], given.get(setting)
            if asked not in (None, known):
                raise ProfileNeeded(
                    f"The profile was learnt with {setting}={known!r}, and {setting}={asked!r} is set.",
                    profile.method,
                    settings={setting: asked},
                )
            settings[setting] = known
        kept.append(profile)
    return settings, kept
