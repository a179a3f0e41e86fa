"""Whether the parts of a method go together, on the model that it is attached to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import InputError
from .decide import moment
from .types import Region

if TYPE_CHECKING:
    from .engine import Engine


def check_fit(engine: Engine) -> None:
    """Refuse what makes no sense.

    Raises:
        InputError: the gate looks into a model that is left out whole; guidance is to be filled in and no branch
            decides for the others; or a forecaster says that it can't go with the gate, or with what it is to forecast.
    """
    method, regions = engine.method, [r for regions in engine.regions for r in regions]
    if moment(engine) != "before" and any(not r.members for r in regions):
        raise InputError(
            "The gate looks into the model before it decides, so the whole model can't be what is left out. Choose "
            "a scope inside the model, or a gate that goes by steps or latents."
        )
    if method.guidance is not None and not engine.shared:
        raise InputError(
            f"{method.name!r} tells the other guidance branches from the one that decides, and with "
            "branches='separate' each decides for itself. Leave branches at 'shared', or choose another method."
        )
    for forecaster, of in ((method.forecaster, regions), (method.guidance, [Region("guidance", ())])):
        refuses = getattr(forecaster, "refuses", None)
        why = refuses(method.gate, of) if refuses is not None and of else None
        if why is not None:
            raise InputError(why)
