"""Attaching a method to a model, and taking it off again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import nn

from . import anatomies
from . import methods as recipes
from .conflicts import refuse_if_occupied
from .engine.anatomy import Anatomy, original_class
from .engine.document import read_document
from .engine.engine import Engine
from .engine.handle import SETTINGS_SCHEMA, SETTINGS_VERSION, Handle, handle_of
from .engine.method import Method
from .errors import InputError
from .methods.learnt import agreed
from .methods.names import is_composed, listed, profiled
from .methods.recipe import Recipe
from .methods.settings import COMMON, unknown
from .methods.values import check
from .planner import Plan, Profile
from .planner.plan import SHIPPED
from .planner.profile import remedy


def apply(
    target: Any,
    method: str | Method | None = None,
    *,
    settings: str | Path | None = None,
    anatomy: Anatomy | Sequence[Anatomy] | None = None,
    **given: Any,
) -> Handle:
    """Attach a method to a transformer, or to a pipeline's transformer(s).

    Args:
        target: an ``nn.Module``, or an object with ``.transformer`` (and perhaps ``.transformer_2``, ``.scheduler``).
        method: a name from ``methods()`` (default ``"synccache"``), or a ``Method`` composed by hand.
        settings: a file that ``handle.save`` wrote, for method and settings; what is given besides goes before it.
        anatomy: what the model is made of, where it can't be recognised; for a pipeline with two experts one for the
            first, or one for each.
        given: the method's settings (``methods()[name].settings``) and those of the engine:
            ``mask`` (see ``Handle.mask``), ``steps`` (length of a run where no scheduler tells), ``branches``
            (``"shared"`` or ``"separate"`` decisions), ``storage_dtype`` and ``storage_device`` of stored values,
            ``group`` (process group over which ranks agree).

    Returns:
        The handle; ``handle.remove()`` or ``remove(target)`` takes it off. A cache of ours that is already attached is
        replaced.

    Raises:
        InputError: an unknown method or setting, or a value that can't be used.
        UnsupportedModel: the model's anatomy can't be told.
        Conflict: another cache, or a whole-model compile, is on the model.

    Example:
        >>> handle = synccache.apply(pipe, "synccache", threshold=0.12, mask=person)
    """
    models = transformers_of(target)
    if settings is not None:
        saved = read_document(settings, SETTINGS_SCHEMA, SETTINGS_VERSION)
        method = method if method is not None else saved.get("method")
        if not isinstance(saved.get("settings"), dict):
            raise InputError(f"{settings} has no settings in it. Write it with handle.save(path).")
        given = {**saved["settings"], **given} if method == saved.get("method") else given
    pipeline = None if isinstance(target, nn.Module) and models[0] is target else target
    for model in models:
        refuse_if_occupied(model, pipeline)
    own = [anatomy] if isinstance(anatomy, Anatomy) else list(anatomy or ())
    if len(own) > len(models):
        raise InputError(f"{len(own)} anatomies were given for {len(models)} transformers. Give one for each at most.")
    known = tuple(own[i] if i < len(own) else anatomies.find(m) for i, m in enumerate(models))
    scheduler = getattr(pipeline, "scheduler", None)
    built, complete = _build(
        method if method is not None else "synccache", given, known[0], scheduler and type(scheduler).__name__
    )
    engine = Engine(
        built, models, known,
        pipeline=pipeline, plan=complete.get("plan"), steps=complete["steps"], shared=complete["branches"] == "shared",
        storage_dtype=complete["storage_dtype"], storage_device=complete["storage_device"], group=complete["group"],
    )  # fmt: skip
    handle = Handle(engine, {k: v for k, v in complete.items() if k != "mask"} | _as_given(given, complete), known)
    handle.mask = complete["mask"]
    remove(target)
    return handle.attach()


def remove(target: Any) -> None:
    """Take our cache off a transformer, a pipeline or a handle's model; nothing happens where there is none."""
    if isinstance(target, Handle):
        target.remove()
        return
    for model in transformers_of(target):
        handle = handle_of(model)
        if handle is not None:
            handle.remove()


@contextmanager
def cached(target: Any, method: str | Method | None = None, **given: Any) -> Iterator[Handle]:
    """``apply`` for the length of a ``with`` block; takes ``apply``'s arguments and gives its handle."""
    handle = apply(target, method, **given)
    try:
        yield handle
    finally:
        handle.remove()


def methods() -> Mapping[str, Recipe]:
    """All methods by name; each has ``summary``, ``paper``, ``settings`` and ``info()``."""
    return MappingProxyType(dict(recipes.RECIPES))


# In the order in which a run calls them: diffusers' names, then those of the released Wan2.2 pipelines.
_TRANSFORMERS = ("transformer", "transformer_2", "noise_model", "high_noise_model", "low_noise_model")


def transformers_of(target: Any) -> list[nn.Module]:
    """The transformers of a pipeline, or the module itself.

    Raises:
        InputError: it is neither.
    """
    found = [getattr(target, name, None) for name in _TRANSFORMERS]
    models = [m for m in found if isinstance(m, nn.Module)]
    if isinstance(target, nn.Module) and _has_forward(target):
        return [target]
    if models:
        return models
    raise InputError(
        f"{type(target).__name__} is neither an nn.Module nor a pipeline with a .transformer. Pass one of these."
    )


def _has_forward(module: nn.Module) -> bool:
    return getattr(original_class(module), "forward", None) is not nn.Module.forward


def _build(
    method: str | Method, given: Mapping[str, Any], anatomy: Anatomy, scheduler: str | None
) -> tuple[Method, dict[str, Any]]:
    if isinstance(method, Method):
        valid = {**COMMON, "plan": None}
        for name, value in given.items():
            if name not in valid:
                raise InputError(unknown("setting", name, valid, "beside a composed Method"))
            check(name, value)
        settings = {**valid, **given}
        plans = [_opened(one) for one in listed(settings["plan"])]
        return method, {**settings, "plan": _plan_of(plans, anatomy, scheduler) if plans else None}
    if not isinstance(method, str):
        raise InputError(f"A method is a name or a Method, not a {type(method).__name__}.")
    recipe = recipes.find(method)
    settings = recipes.complete(recipe, given, anatomy.name, len(anatomy.blocks))
    profiles = [_opened(one) for one in listed(settings.get("profile"))]
    if "plan" in recipe.settings:
        own = "profile" in recipe.settings
        plans = [one for one in profiles if not own or Plan.of(one.tensors)]
        profiles = [one for one in profiles if one not in plans]
        settings["plan"] = _plan_of([*map(_opened, listed(settings["plan"])), *plans], anatomy, scheduler)
    if "profile" in recipe.settings:
        found = _profiles(profiles, recipe.name, anatomy, scheduler)
        settings, found = agreed(recipe.name, settings, given, found, recipes.RECIPES)
        settings["profile"] = found if is_composed(recipe.name) else next(iter(found), None)
    return recipe.build(settings), settings


def _opened(given: Any) -> Profile:
    return given if isinstance(given, Profile) else Profile.load(given)


def _plan_of(given: Sequence[Profile], anatomy: Anatomy, scheduler: str | None) -> Plan | None:
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
        raise InputError(f"The profile of {profile.method!r} tells nothing of segments. {remedy(SHIPPED)}")
    return plan


def _profiles(given: Sequence[Profile], method: str, anatomy: Anatomy, scheduler: str | None) -> list[Profile]:
    """One for each method that ``method`` takes a profile of: the user's, else a shipped one that fits, if any.

    Raises:
        InputError: the user's is of another method, model or scheduler; or there are two of one method.
    """
    wanted, found = profiled(method, recipes.RECIPES), {}
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


def shipped_profile(method: str, anatomy: Anatomy, scheduler: str | None = None) -> Profile | None:
    """The profile of ``method`` that the package has for these very weights and this scheduler's class, if any."""
    path = shipped_file(method, anatomy)
    if path is None:
        return None
    profile = Profile.load(path, method)
    return replace(profile, shipped=True) if profile.fits(anatomy, scheduler) else None


def shipped_file(method: str, anatomy: Anatomy) -> Path | None:
    """The file with the profile of ``method`` that the package has for models like this one, if any."""
    path = None if anatomy.shipped is None else anatomy.shipped / profile_name(method)
    return path if path is not None and path.is_file() else None


def profile_name(method: str) -> str:
    """Name of the file with a method's profile, in the folder of those that are shipped for a model."""
    return f"profile-{method}.safetensors"


def _as_given(given: Mapping[str, Any], complete: Mapping[str, Any]) -> dict[str, Any]:
    """What to keep of profiles among the settings: what the user gave, so that it can be saved."""
    return {name: given.get(name) for name in ("plan", "profile") if name in complete}
