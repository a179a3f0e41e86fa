"""Where modules sit in a model, so that it shows when others take their places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Seat:
    """A module's place: its name in the module that holds it, and where that one sits."""

    holder: nn.Module
    name: str
    above: Seat | None = None

    def now(self) -> Any:
        """The module that is there at present; None where there is none any more."""
        above = None if self.above is None else self.above.now()
        holder = self.holder if above is None else above
        return holder._modules.get(self.name)


def seats_in(model: nn.Module) -> dict[int, Seat]:
    """The seat of every module inside ``model``, by the module's id."""
    found: dict[int, Seat] = {}
    for holder in model.modules():
        for name, child in holder._modules.items():
            found.setdefault(id(child), Seat(holder, name, found.get(id(holder))))
    return found
