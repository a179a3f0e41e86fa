"""Settings by name: which there are, what each says something about, and a method's complete ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import InputError
from .recipe import Recipe
from .values import check, read

# Taken by the engine, so by every method.
COMMON: dict[str, Any] = {
    "speed": None, "steps": None, "branches": "shared", "storage_dtype": None, "storage_device": None, "group": None,
    "mask": None,
}  # fmt: skip

# The parts that a setting is about: when, where or how. In a composed method the recipe that lends this part has it.
AXES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "threshold", "computed_steps", "mask_weight", "warmup", "last", "max_gap", "interval", "schedule", "ratios",
            "coefficients", "signal", "front", "probe", "max_skips", "turn", "refresh", "growth",
            "guided", "budget", "divisors",
        ),
        ("gate",),
    ),
    **dict.fromkeys(
        (
            "cache_ratio", "boundaries", "decoupled", "back", "residual", "attention", "feed_forward", "share",
            "blocks", "limit",
        ),
        ("scope",),
    ),
    "plan": ("gate", "scope"),
    **dict.fromkeys(
        (
            "contraction", "reach", "person_gap", "background_contraction", "background_gap",
            "order", "sigma", "heun", "upper", "keep", "clusters", "variant",
            "beta", "anchors", "energy", "ridge", "centred",
        ),
        ("forecaster",),
    ),
    "profile": ("gate", "scope", "forecaster"),
}  # fmt: skip


# What each says how many steps are computed, so that none goes with another.
COUNTING = ("speed", "computed_steps", "threshold", "schedule", "interval")

# Settings that say the same as the profile of a method that learns.
PROFILED = ("blocks", "coefficients", "ratios")


def complete(
    recipe: Recipe, given: Mapping[str, Any], anatomy: str | None = None, blocks: int | None = None
) -> dict[str, Any]:
    """All settings of a method: the user's, else the defaults for this model, else the method's.

    Args:
        given: the user's; None stands for the default, 0 for off.
        anatomy, blocks: the model's family and its number of blocks, by which its defaults are known.

    Raises:
        InputError: an unknown setting, a value out of range, or two that exclude each other.
    """
    segmented = {"profile": None} if "plan" in recipe.settings else {}  # may stand under either name
    known = {**segmented, **recipe.settings, **COMMON}
    for name in given:
        if name not in known:
            raise InputError(unknown("setting", name, known, f"of the method {recipe.name!r}"))
    given = {k: v for k, v in given.items() if v is not None}
    for name, value in given.items():
        check(name, value)
    if given.get("threshold") is not None and given.get("computed_steps") is not None:
        raise InputError("Give threshold or computed_steps, not both: the one is found from the other.")
    for name in COUNTING[1:]:
        if "speed" in given and name in given:
            raise InputError(f"Give speed or {name}, not both: each says how many steps are computed.")
    replaced = [n for n in PROFILED if n in recipe.settings and "profile" in given and recipe.learn is not None]
    for name in replaced:
        if name in given:
            raise InputError(f"Give {name} or profile, not both: the one takes the place of the other.")
    model = {**recipe.models.get(f"{anatomy}", {}), **recipe.models.get(f"{anatomy}/{blocks}", {})}
    settings = {**known, **model, **{k: read(k, v) for k, v in given.items()}}
    for one, other in (("threshold", "computed_steps"), ("computed_steps", "threshold")):
        if one in given and other in settings:
            settings[other] = None
    return {**settings, **dict.fromkeys(replaced)}


def unknown(kind: str, name: str, valid: Iterable[str], where: str = "") -> str:
    """Sentence for a name that doesn't exist: the nearest one, and all that do."""
    names = sorted(valid)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    place = f" {where}" if where else ""
    return f"{name!r} is not a {kind}{place}.{guess} There are: {', '.join(names)}."
