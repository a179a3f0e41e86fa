"""Methods composed by name: the gate of one recipe, the scope of another, the forecaster of a third.

``"synccache+hicache"``: gate and scope of the first, forecaster of the second.
``"gate=synccache,scope=whole-stack,forecaster=foca"``: each from the named recipe; those left out from the gate's.

Settings: the composed method takes the settings of the three parts and no others. ``settings.AXES`` says which part a
setting is about; its default comes from the recipe that lends this part, also the default for one model. A setting
that several parts share (``plan``) goes to all of them. Its default is that of the first part that has it, in the order
gate, scope, forecaster.
Profiles: ``profile`` may hold several, each for the method that learnt it. A recipe takes none if it lends only parts
that don't depend on its profile (``Recipe.alone``).
Guidance: if the gate's recipe fills in other branches from the deciding one's output, so does the composed method, in
the same way. If that recipe fills in nothing else, the composed forecaster predicts these branches.
Searched lists (``schedule``, ``searched``): if the composed forecaster is reuse or a line, the search is for it. For
other forecasters the list is the lender's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.method import Method
from ..core.types import Forecaster
from ..errors import InputError
from ..scopes import Nothing
from .names import axes, listed, parts_of
from .recipe import PARTS, Recipe, Settings
from .settings import unknown


def composed(name: str, recipes: Mapping[str, Recipe]) -> Recipe:
    """The recipe that ``name`` describes; InputError where there is none or it can't lend what it is asked for."""
    lent = {part: _lender(part, of, recipes) for part, of in parts_of(name).items()}
    gate, scope, how = (lent[part] for part in PARTS)
    models = dict.fromkeys(model for recipe in lent.values() for model in recipe.models)
    needs = dict.fromkeys(r.needs for part, r in lent.items() if r.needs != "nothing" and part not in r.alone)
    return Recipe(
        name=name,
        summary=f"The gate of {gate.name}, the scope of {scope.name}, the forecaster of {how.name}.",
        paper="composed",
        gate=gate.gate,
        scope=scope.scope,
        forecaster=how.forecaster,
        settings=_own({part: _known(part, recipe) for part, recipe in lent.items()}),
        build=lambda s: _build(name, lent, s),
        models={m: _own({part: r.models.get(m, {}) for part, r in lent.items()}) for m in models},
        needs="; ".join(needs) or "nothing",
    )


def _lender(part: str, name: str, recipes: Mapping[str, Recipe]) -> Recipe:
    if name not in recipes:
        raise InputError(unknown("method", name, recipes))
    if recipes[name].paper == "control":
        raise InputError(f"{name!r} is a control that leaves nothing out, so it has no {part} to lend.")
    return recipes[name]


def _known(part: str, recipe: Recipe) -> Settings:
    """The recipe's settings, without a profile that doesn't serve this part."""
    return {k: v for k, v in recipe.settings.items() if k != "profile" or part in recipe.profile_serves}


def _own(given: Mapping[str, Settings]) -> dict[str, Any]:
    """Of each part's settings those that belong to it; the first part's where several have one."""
    settings: dict[str, Any] = {}
    for part in PARTS:
        settings = {**{k: v for k, v in given[part].items() if part in axes(k)}, **settings}
    return settings


def _build(name: str, lent: Mapping[str, Recipe], s: Settings) -> Method:
    """Take from each recipe its part, made with its own settings."""
    how, _ = _lend("forecaster", lent["forecaster"], s)
    gate, guidance = _lend("gate", lent["gate"], {**s, "forecaster": how})
    scope, _ = _lend("scope", lent["scope"], s)
    parts = {"gate": gate, "scope": scope, "forecaster": how}
    if isinstance(parts["scope"], Nothing):
        if guidance is None or lent["scope"] is not lent["gate"]:
            raise InputError(f"{lent['scope'].name!r} fills in guidance branches only, so it has no scope to lend.")
        guidance = parts["forecaster"]
    return Method(**parts, name=name, guidance=guidance)


def _lend(part: str, recipe: Recipe, s: Settings) -> tuple[Any, Forecaster | None]:
    """One part of the recipe's method, and how that method fills in guidance branches."""
    given = {k: s[k] for k in _known(part, recipe) if k in s and part in axes(k)}
    learnt: Settings = {}
    if "profile" in given:
        own = next((p for p in listed(given["profile"]) if p.method == recipe.name), None)
        given["profile"], learnt = own, {} if own is None else own.settings  # of other parts: as it was learnt
    settings = {**s, **recipe.settings, **learnt, **given}
    if part in recipe.alone:
        return recipe.alone[part](settings), None
    method = recipe.build(settings)
    return getattr(method, part), method.guidance
