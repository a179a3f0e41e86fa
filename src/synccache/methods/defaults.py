"""Which method a model gets where only a speed-up is asked for, and what speaks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Default:
    """A method for a model family, and why."""

    method: str
    why: str


DEFAULTS: Mapping[str, Default] = {
    "portrait": Default(
        "synccache-cfg",
        "measured: with audio live on every step, nearest to the uncached mouth at 2 to 4 times the speed",
    ),
}
OTHERS = Default(
    "synccache-linear",
    "nothing was measured on this model with real weights; on the built-in portrait model, a line through two "
    "residuals came nearer to the uncached mouth than reuse, at the same speed and twice the memory",
)


def default_for(family: str) -> Default:
    """The method for a model family (``anatomy.name``)."""
    return DEFAULTS.get(family, OTHERS)
