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
from .methods.compose import is_composed, listed, profiled
from .methods.recipe import Recipe
from .methods.settings import COMMON, check, unknown
from .planner.learned import Profile
from .planner.plan import Plan


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
        return method, {**settings, "plan": _plan(settings["plan"], None, anatomy)}
    if not isinstance(method, str):
        raise InputError(f"A method is a name or a Method, not a {type(method).__name__}.")
    recipe = recipes.find(method)
    settings = recipes.complete(recipe, given, anatomy.name)
    if "plan" in recipe.settings:
        settings["plan"] = _plan(settings["plan"], anatomy.plan, anatomy)
    if "profile" in recipe.settings:
        profiles = _profiles(settings["profile"], recipe.name, anatomy, scheduler)
        settings["profile"] = profiles if is_composed(recipe.name) else next(iter(profiles), None)
    return recipe.build(settings), settings


def _plan(given: Any, shipped: Path | None, anatomy: Anatomy) -> Plan | None:
    """The plan to use: the user's, which must fit the model, or the shipped one, if it does."""
    if given is not None:
        plan = given if isinstance(given, Plan) else Plan.load(given)
        plan.check(anatomy)
        return plan
    if shipped is None:
        return None
    plan = Plan.load(shipped)
    return plan if plan.fits(anatomy) else None


def _profiles(given: Any, method: str, anatomy: Anatomy, scheduler: str | None) -> tuple[Profile, ...]:
    """One for each method that ``method`` takes a profile of: the user's, else a shipped one that fits, if any.

    Raises:
        InputError: the user's is of another method, model or scheduler; or there are two of one method.
    """
    wanted, found = profiled(method, recipes.RECIPES), {}
    for one in listed(given):
        profile = one if isinstance(one, Profile) else Profile.load(one, method)
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
    return tuple(found.values())


def shipped_profile(method: str, anatomy: Anatomy, scheduler: str | None = None) -> Profile | None:
    """The profile of ``method`` that the package has for these very weights and this scheduler's class, if any."""
    path = None if anatomy.plan is None else anatomy.plan.with_name(profile_name(method))
    if path is None or not path.is_file():
        return None
    profile = Profile.load(path, method)
    return replace(profile, shipped=True) if profile.fits(anatomy, scheduler) else None


def profile_name(method: str) -> str:
    """Name of the file, beside the plan that is shipped for a model, with a method's profile of it."""
    return f"profile-{method}.safetensors"


def _as_given(given: Mapping[str, Any], complete: Mapping[str, Any]) -> dict[str, Any]:
    """What to keep of plan and profile among the settings: what the user gave, so that it can be saved."""
    return {name: given.get(name) for name in ("plan", "profile") if name in complete}
