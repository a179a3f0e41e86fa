"""Names of methods composed of others: ``"synccache+hicache"``, ``"gate=teacache,scope=fora"``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from .recipe import PARTS, Recipe
from .settings import AXES, unknown


def is_composed(name: str) -> bool:
    return "+" in name or "=" in name


def lenders(name: str) -> tuple[str, ...]:
    """Names of the recipes that a method's name is made of: itself, where it isn't composed."""
    return tuple(dict.fromkeys(parts_of(name).values())) if is_composed(name) else (name,)


def profiled(name: str, recipes: Mapping[str, Recipe]) -> tuple[str, ...]:
    """Names of the methods whose profiles the method ``name`` can use."""
    lent = parts_of(name) if is_composed(name) else dict.fromkeys(PARTS, name)
    return tuple(dict.fromkeys(of for part, of in lent.items() if part in recipes[of].profile_serves))


def lent_by(name: str, part: str) -> str:
    """The recipe that lends a part of the method ``name``."""
    return parts_of(name)[part] if is_composed(name) else name


def axes(setting: str) -> tuple[str, ...]:
    """The parts that a setting says something about; all of them where nobody has said."""
    return AXES.get(setting, PARTS)


def parts_of(name: str) -> dict[str, str]:
    """Part to recipe, complete."""
    if "=" not in name:
        names = [n.strip() for n in name.split("+")]
        if len(names) != 2 or not all(names):
            raise InputError(
                f"{name!r} must name two methods, gate and scope of the first and forecaster of the second."
            )
        return {"gate": names[0], "scope": names[0], "forecaster": names[1]}
    found: dict[str, str] = {}
    for pair in name.split(","):
        part, _, of = (text.strip() for text in pair.partition("="))
        if part not in PARTS:
            raise InputError(unknown(f"part of the method {name!r}", part, PARTS))
        if not of or part in found:
            raise InputError(f"In {name!r} each part is given once, as in {part}=synccache.")
        found[part] = of
    if "gate" not in found:
        raise InputError(f"{name!r} has no gate. Start with gate=NAME; parts left out are of that method.")
    return {part: found.get(part, found["gate"]) for part in PARTS}


def listed(value: Any) -> tuple[Any, ...]:
    """One value or several as a tuple; none of None."""
    return () if value is None else tuple(value) if isinstance(value, list | tuple) else (value,)
