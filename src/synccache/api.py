"""Attaching a method to a model, and taking it off again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import nn

from . import anatomies
from .conflicts import refuse_if_occupied
from .core.anatomy import Anatomy
from .core.method import Method
from .defaults import METHOD, default_for
from .engine.engine import Engine
from .errors import InputError
from .handle import Handle, handle_of
from .methods import RECIPES
from .methods.recipe import Recipe
from .profiles import build, load_settings, save_settings
from .profiles.saving import refuse_to_save
from .sampling import ShortSchedule
from .targets import transformers_of


def apply(
    target: Any,
    method: str | Method | None = None,
    *,
    settings: str | Path | None = None,
    anatomy: Anatomy | Sequence[Anatomy] | None = None,
    **given: Any,
) -> Handle:
    """Attach a method to a pipeline's transformers, or to one transformer.

    Args:
        target: a pipeline, or a transformer (an ``nn.Module``). See ``targets.transformers_of``.
        method: a name from ``methods()``, or two joined (``"synccache+hicache"``). By default ``"synccache"``; with
            ``speed``, the one that was measured best on this model (``docs/methods.md``).
        given: settings of the method. These matter most:

            - ``speed``: how many times faster denoising is to be: 3, or ``"quality"`` (2), ``"balanced"`` (3),
              ``"fast"`` (4). The number of computed steps follows from what a skipped step costs, which is timed.
            - ``mask``: where the person is. A picture file, a PIL image, an array or a tensor (see ``Handle.mask``).
            - ``threshold``: instead of a speed, how much may change before a step is computed. Higher is faster.
            - ``computed_steps``: instead of either, how many steps of a run to compute.
            - ``steps``: how many steps a run has, where the pipeline has no scheduler that tells.
            - ``cache_ratio``: which part of the residuals to keep, over 0 and up to 1. Lower takes less memory.
            - ``profile``: what ``learn_profile`` made, or its file.

            The others of a method are in ``methods()[name].settings``. Every method also takes these:

            - ``branches``: ``"shared"`` (default): one decision for all guidance branches; ``"separate"``: one each.
            - ``storage_dtype``, ``storage_device``: of stored values; by default those of the model.
            - ``group``: the process group whose ranks take the same decisions; by default the model's own.
        settings: a file that ``handle.save`` wrote. What you give here as well replaces what the file says.
        anatomy: what the model is made of, if it isn't recognised. For two experts: the first one's, or one each.

    Returns:
        The handle. ``handle.remove()`` or ``remove(target)`` takes the method off again. If a method is attached
        already, the new one replaces it.

    Raises:
        InputError: an unknown method or setting, or a value that can't be used.
        UnsupportedModel: the model's anatomy can't be told.
        Conflict: another cache, or a whole-model compile, is on the model.

    Example:
        >>> handle = synccache.apply(pipe, speed=3, mask="person.png")
        >>> video = pipe(image=portrait, audio=speech)
        >>> handle.remove()
    """
    models = transformers_of(target)
    if settings is not None:
        name, saved = load_settings(settings)
        method = name if method is None else method
        given = {**saved, **given} if method == name else given
    pipeline = None if models[0] is target else target
    for model in models:
        refuse_if_occupied(model, pipeline)
    known = _anatomies(anatomy, models)
    if method is None:
        method = METHOD if given.get("speed") is None else default_for(known[0].name).method
    scheduler = getattr(pipeline, "scheduler", None)
    built = build(method, given, known[0], None if scheduler is None else type(scheduler).__name__)
    s = built.settings
    engine = Engine(
        built.method, models, known,
        pipeline=pipeline, plan=built.plan, pace=built.pace, steps=s["steps"], shared=s["branches"] == "shared",
        storage_dtype=s["storage_dtype"], storage_device=s["storage_device"], group=s["group"],
    )  # fmt: skip
    save = refuse_to_save if isinstance(method, Method) else save_settings
    shorten: Any = built.method.shorten
    schedule = None if shorten is None else lambda: ShortSchedule(pipeline, shorten)
    handle = Handle(engine, {k: v for k, v in s.items() if k != "mask"}, save=save, schedule=schedule)
    handle.mask = s["mask"]
    remove(target)
    return handle.attach()


def _anatomies(given: Anatomy | Sequence[Anatomy] | None, models: Sequence[nn.Module]) -> tuple[Anatomy, ...]:
    """One for each model: the given ones, the others found."""
    own = [given] if isinstance(given, Anatomy) else list(given or ())
    if len(own) > len(models):
        raise InputError(f"{len(own)} anatomies were given for {len(models)} transformers. Give one for each at most.")
    return tuple(own[i] if i < len(own) else anatomies.find(m) for i, m in enumerate(models))


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
    """``apply`` for the length of a ``with`` block; takes ``apply``'s arguments and gives its handle.

    Example:
        >>> with synccache.cached(pipe, "synccache", computed_steps=12) as handle:
        ...     video = pipe(image=portrait, audio=speech)
    """
    handle = apply(target, method, **given)
    try:
        yield handle
    finally:
        handle.remove()


def methods() -> Mapping[str, Recipe]:
    """All methods by name; each has ``summary``, ``paper``, ``settings`` and ``info()``."""
    return MappingProxyType(dict(RECIPES))


__all__ = ["apply", "cached", "methods", "remove", "transformers_of"]
