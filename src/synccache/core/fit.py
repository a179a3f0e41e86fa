"""Whether the parts of a method go together, on the model that it is attached to, and an anatomy with its calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError
from .anatomy import Anatomy, argument_names, tensors_in
from .method import Method
from .types import Region, innermost


def looks_inside(method: Method) -> bool:
    """Whether the gate decides when blocks have been called."""
    measure = innermost(method.gate).measure
    return bool(measure.blocks) or "signal" in measure.watches


def check_fit(method: Method, regions: Sequence[Region], shared: bool = True) -> None:
    """Refuse what makes no sense.

    Raises:
        InputError: the gate looks into a model that is left out whole; it names groups of tokens and the scope knows of
            none, or the other way round; guidance is to be filled in and no branch
            decides for the others; or a forecaster says that it can't go with the gate, or with what it is to forecast.
    """
    whole = any(not r.members and r.value != "guidance" for r in regions)
    if whole and looks_inside(method) and innermost(method.gate).skips:
        raise InputError(
            "The gate looks into the model before it decides, so the whole model can't be what is left out. Choose "
            "a scope inside the model, or a gate that goes by steps or latents."
        )
    if method.guidance is not None and not shared:
        raise InputError(
            f"{method.name!r} tells the other guidance branches from the one that decides, and with "
            "branches='separate' each decides for itself. Leave branches at 'shared', or choose another method."
        )
    parted, named = any(r.rows for r in regions), getattr(innermost(method.gate), "names_tokens", False)
    if regions and parted != named:
        one, other = ("gate", "scope") if named else ("scope", "gate")
        raise InputError(
            f"The {one} of {method.name!r} is for groups of tokens that are computed without the others, and its "
            f"{other} isn't. Take both from the same method."
        )
    if parted and (method.guidance is not None or method.forecaster.split is not None or method.forecaster.gram):
        raise InputError(
            f"{method.name!r} keeps values of each token from steps of its own, which only forecasts by the times "
            "alone can go on from. Choose reuse or a line, without guidance told from another branch."
        )
    for guidance in (False, True):
        of = [r for r in regions if (r.value == "guidance") == guidance]
        forecaster = method.guidance if guidance else method.forecaster
        refuses = getattr(forecaster, "refuses", None)
        why = refuses(method.gate, of) if refuses is not None and of else None
        if why is not None:
            raise InputError(why)


def check_call(cls: type, anatomy: Anatomy, bound: Mapping[str, Any]) -> None:
    """Refuse a call that hasn't the timestep and the latent where the anatomy says.

    Raises:
        InputError: one of them is missing, or is no such thing.
    """
    for what, name in (("timestep", anatomy.timestep), ("latent", anatomy.latent)):
        how = _problem(what, bound.get(name))
        if how is not None:
            raise InputError(
                f"{cls.__name__}({', '.join(argument_names(cls))}) was called {how} {name!r}, which the anatomy gives "
                f"as the {what}. Pass anatomy=Anatomy(..., {what}=...) with the name of that argument."
            )


def _problem(what: str, value: Any) -> str | None:
    """How a model was called with ``value`` as its ``what``; None where it may be one."""
    if value is None:
        return "without"
    tensors = tensors_in(value)
    if what == "latent":
        return None if tensors and all(t.ndim > 1 for t in tensors) else "with no tensor as"
    if any(sum(size > 1 for size in t.shape[1:]) > 1 for t in tensors):
        return "with more than a number for each token as"
    numbers = value if isinstance(value, list | tuple) else [value]
    known = tensors or all(isinstance(v, int | float) and not isinstance(v, bool) for v in numbers)
    return None if known else "with no number as"
