"""How a method's settings and the profiles that it takes go together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError
from .names import axes, lent_by
from .recipe import Recipe
from .settings import PROFILED


def agreed(
    name: str, settings: Mapping[str, Any], given: Mapping[str, Any], profiles: Sequence[Any],
    recipes: Mapping[str, Recipe],
) -> tuple[dict[str, Any], list[Any]]:  # fmt: skip
    """Settings and profiles of the method ``name``, made to say the same.

    A setting that says itself what a profile tells takes the place of one that nobody asked for, and gives way to the
    user's. Settings that shape what is learnt (``Recipe.shapes``) are as the profile learnt with them.

    Raises:
        InputError: the user says one thing by a setting and another by a profile.
    """
    settings, kept = dict(settings), []
    for profile in profiles:
        recipe = recipes[profile.method]
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
                raise InputError(
                    f"The profile was learnt with {setting}={known}, and {setting}={asked} is set. Make one with: "
                    f"synccache profile --method {profile.method} --set {setting}={str(asked).lower()} "
                    "--out profile.safetensors"
                )
            settings[setting] = known
        kept.append(profile)
    return settings, kept
