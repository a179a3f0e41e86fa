"""What a method can be attached to: a transformer, or anything that holds one or two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from .anatomies.generic import TIMESTEPS
from .core.anatomy import argument_names, original_class
from .errors import InputError

# In the order in which a run calls them: diffusers' names, then those of the released Wan2.2 pipelines.
NAMES = ("transformer", "transformer_2", "noise_model", "high_noise_model", "low_noise_model")


def transformers_of(target: Any) -> list[nn.Module]:
    """The transformers of a pipeline in the order in which a run calls them, or the transformer itself.

    A pipeline is any object with ``.transformer`` (and perhaps ``.transformer_2``), or with the names of the released
    Wan2.2 pipelines: diffusers' pipelines and modular pipelines, serving engines' pipelines that are modules
    themselves, an object of your own. A module that holds no transformer under these names is a transformer, and so is
    one that is called with a timestep and whose inner ``.transformer`` isn't.

    Raises:
        InputError: it is neither.

    Example:
        >>> transformers_of(pipe)  # of Wan2.2: the two experts
        [WanTransformer3DModel(...), WanTransformer3DModel(...)]
    """
    named = {name: _held(target, name) for name in NAMES}
    models = [m for m in named.values() if isinstance(m, nn.Module) and _has_forward(m)]
    itself = isinstance(target, nn.Module) and _has_forward(target)
    if models and not (itself and _takes_time(target) and not any(map(_takes_time, models))):
        return list(dict.fromkeys(models))
    if itself:
        return [target]
    raise InputError(_problem(target, named))


def _held(target: Any, name: str) -> Any:
    """What ``target`` has under that name, as an attribute or among its components."""
    if hasattr(target, name):
        return getattr(target, name)
    components = getattr(target, "components", None)
    return components.get(name) if isinstance(components, Mapping) else None


def _has_forward(module: nn.Module) -> bool:
    return getattr(original_class(module), "forward", None) is not nn.Module.forward


def _takes_time(module: nn.Module) -> bool:
    return bool(set(TIMESTEPS) & set(argument_names(original_class(module))))


def _problem(target: Any, named: Mapping[str, Any]) -> str:
    kind = type(target).__name__
    if isinstance(target, type):
        return f"{target.__name__} is a class. Pass an object of it: a transformer, or a pipeline with a .transformer."
    if hasattr(target, NAMES[0]) and named[NAMES[0]] is None:
        return f"{kind}.transformer is None. Load it first (a modular pipeline's with pipe.load_components())."
    wrong = next((name for name, value in named.items() if value is not None), None)
    if wrong is not None:
        return f"{kind}.{wrong} is a {type(named[wrong]).__name__} and can't be called as a transformer. Pass the one."
    return f"{kind} is neither an nn.Module nor a pipeline with a .transformer. Pass one of these."
