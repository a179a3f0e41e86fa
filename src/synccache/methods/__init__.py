"""Recipes: one published method per file. A new file with a ``RECIPE`` in it is found by itself."""

from __future__ import annotations

import importlib
import pkgutil
from types import MappingProxyType

from ..errors import InputError
from .compose import composed
from .names import is_composed
from .recipe import Recipe
from .settings import COMMON, complete, unknown

_MODULES = (importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__))
_RECIPES = sorted((m.RECIPE for m in _MODULES if hasattr(m, "RECIPE")), key=lambda r: r.name)
RECIPES = MappingProxyType({recipe.name: recipe for recipe in _RECIPES})


def find(name: str) -> Recipe:
    """The recipe of that name, or composed as the name says (``"synccache+hicache"``; see ``methods/compose.py``).

    Raises:
        InputError: there is none; names the nearest.
    """
    if is_composed(name):
        return composed(name, RECIPES)
    if name not in RECIPES:
        raise InputError(unknown("method", name, RECIPES))
    return RECIPES[name]


__all__ = ["COMMON", "RECIPES", "Recipe", "complete", "find"]
