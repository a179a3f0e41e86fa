"""Learning: from uncached runs of a model a method takes what it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .. import anatomies
from ..api import transformers_of
from ..core.anatomy import Anatomy
from ..errors import InputError
from ..methods import RECIPES, complete, find
from ..methods.names import lenders
from ..methods.recipe import Learn, Recipe
from ..methods.remedy import ProfileNeeded
from ..profiles import Profile
from .recorder import ModelRecorder


def learn_profile(
    target: Any,
    method: str,
    call: Callable[[], Any],
    *,
    anatomy: Anatomy | None = None,
    source: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Profile:
    """Let a method learn what it needs from an uncached run.

    Args:
        target: as for ``apply``; nothing is left attached.
        method: a name from ``methods()`` whose ``info()["learns"]`` is true.
        call: runs the pipeline once. It is called a second time if the model's injection sites are found during the
            first run.
        anatomy: as for ``apply``.
        source: what it is learnt from, in words; kept in the profile.
        settings: the method's, and the engine's ``mask`` (which some methods need), ``steps`` and ``group``.

    Raises:
        InputError: the method learns nothing, or ``call`` made less than two steps of the model.

    Example:
        >>> profile = synccache.learn_profile(pipe, "magcache", lambda: pipe(image=portrait, audio=speech))
        >>> profile.save("profile.safetensors")
    """
    recipe, learn = check_learns(method)
    known = anatomy or anatomies.find(transformers_of(target)[0])
    given = complete(recipe, settings, known.name, len(known.blocks))
    recorder = ModelRecorder(
        target, call, anatomy=known, mask=given["mask"], steps=given["steps"], group=given["group"]
    )
    tensors = dict(learn(recorder, given))
    if len(recorder.timesteps) < 2:
        raise InputError(f"The profiled call made {len(recorder.timesteps)} steps of the model; at least 2 are needed.")
    scheduler = getattr(target, "scheduler", None)
    return Profile(
        method=recipe.name,
        model=recorder.anatomy.identity(),
        tensors=tensors,
        timesteps=recorder.timesteps,
        scheduler=None if scheduler is None else type(scheduler).__name__,
        source=source or {},
        weights=recorder.weights,
        settings={name: given[name] for name in recipe.shapes},
    )


def check_learns(method: str) -> tuple[Recipe, Learn]:
    """The recipe of that name and how it learns.

    Raises:
        InputError: there is none, or it learns nothing.
    """
    recipe = find(method)
    parts = [name for name in lenders(method) if RECIPES[name].learn is not None]
    if recipe.learn is None and parts:
        raise ProfileNeeded(f"{method!r} is made of several methods, and a profile is learnt for one.", *parts)
    if recipe.learn is None:
        able = ", ".join(name for name, other in RECIPES.items() if other.learn is not None)
        raise InputError(f"The method {method!r} learns nothing from a run, so it takes no profile. These do: {able}.")
    return recipe, recipe.learn
