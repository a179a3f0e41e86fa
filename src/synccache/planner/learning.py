"""Learning: one uncached run of a model, from which a method takes what it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ..engine.anatomy import Anatomy
from ..engine.handle import handle_of
from ..errors import InputError
from ..methods import RECIPES, complete, find
from ..methods.names import lenders
from .digest import weights_of
from .profile import Profile, remedy


def learn_profile(
    target: Any,
    method: str,
    call: Callable[[], Any],
    *,
    anatomy: Anatomy | None = None,
    source: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Profile:
    """Let a method learn what it needs from one uncached run.

    Args:
        target: as for ``apply``; nothing is left attached.
        method: a name from ``methods()`` whose ``info()["learns"]`` is true.
        call: runs the pipeline once.
        anatomy: as for ``apply``.
        source: kept in the profile: what it was learnt from.
        settings: the method's and the engine's (``mask``, ``steps``).

    Raises:
        InputError: the method learns nothing, or ``call`` made less than two steps of the model.

    Example:
        >>> profile = learn_profile(pipe, "magcache", lambda: pipe(image=portrait, audio=speech))
        >>> profile.save("profile.safetensors")
    """
    from .. import anatomies, api  # which read profiles, and so import this module

    recipe, learn = check_learns(method)
    model = api.transformers_of(target)[0]
    known = anatomy or anatomies.find(model)
    given = {**complete(recipe, settings, known.name, len(known.blocks)), "anatomy": anatomy}
    seen: dict[str, Any] = {"model": known.identity(), "timesteps": ()}

    def watched() -> Any:
        result = call()
        handle = handle_of(model)
        if handle is not None and handle.trace.records:
            steps = tuple(r.timestep for r in handle.trace.steps(0) if r.evaluation == 0)
            seen.update(model=handle.anatomy.identity(), timesteps=steps)
        return result

    weights = weights_of(known.blocks)
    tensors = dict(learn(target, watched, given))
    if len(seen["timesteps"]) < 2:
        raise InputError(f"The profiled call made {len(seen['timesteps'])} steps of the model; at least 2 are needed.")
    scheduler = getattr(target, "scheduler", None)
    name = None if scheduler is None else type(scheduler).__name__
    shaping = {n: given[n] for n in recipe.shapes}
    return Profile(
        method=recipe.name, tensors=tensors, scheduler=name, source=source or {}, weights=weights, settings=shaping,
        **seen,
    )  # fmt: skip


def check_learns(method: str) -> tuple[Any, Callable[..., Mapping[str, Tensor]]]:
    """The recipe of that name and how it learns.

    Raises:
        InputError: there is none, or it learns nothing.
    """
    recipe = find(method)
    parts = [name for name in lenders(method) if RECIPES[name].learn is not None]
    if recipe.learn is None and parts:
        raise InputError(
            f"{method!r} is made of several methods, and a profile is learnt for one. "
            + " ".join(remedy(name) + "." for name in parts)
        )
    if recipe.learn is None:
        able = ", ".join(name for name, other in RECIPES.items() if other.learn is not None)
        raise InputError(f"The method {method!r} learns nothing from a run, so it takes no profile. These do: {able}.")
    return recipe, recipe.learn
