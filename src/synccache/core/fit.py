"""Whether the parts of a method go together, on the model that it is attached to."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError
from .method import Method
from .types import Region, innermost


def looks_inside(method: Method) -> bool:
    """Whether the gate decides when blocks have been called."""
    measure = innermost(method.gate).measure
    return bool(measure.blocks) or "signal" in measure.watches


def check_fit(method: Method, regions: Sequence[Region], shared: bool = True) -> None:
    """Refuse what makes no sense.

    Raises:
        InputError: the gate looks into a model that is left out whole; guidance is to be filled in and no branch
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
    for guidance in (False, True):
        of = [r for r in regions if (r.value == "guidance") == guidance]
        forecaster = method.guidance if guidance else method.forecaster
        refuses = getattr(forecaster, "refuses", None)
        why = refuses(method.gate, of) if refuses is not None and of else None
        if why is not None:
            raise InputError(why)
