"""What models are made of: one family per file, recognised by class name without importing it."""

from __future__ import annotations

from torch import nn

from ..engine.anatomy import Anatomy
from . import generic, portrait, wan, wan_s2v

FAMILIES = (portrait, wan_s2v, wan)


def find(model: nn.Module) -> Anatomy:
    """The anatomy of a transformer: a known family's, else found by structure.

    Raises:
        UnsupportedModel: it can't be told; says what to pass by hand.
    """
    for family in FAMILIES:
        anatomy = family.recognise(model)
        if anatomy is not None:
            return anatomy
    return generic.recognise(model)


__all__ = ["FAMILIES", "Anatomy", "find"]
