"""Defaults that the command line tells before it imports what they belong to; and which method a model gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GUIDANCE_SCALE = 3.0  # of the audio in the portrait model: what the packaged weights were judged at
TRAINING_STEPS = 2400  # of the portrait model
STAGE_GUIDANCE_SCALE = 4.0  # of text and sound together in the stage model
STAGE_STEPS = 30  # of its sampler
STAGE_TRAINING_STEPS, STAGE_BATCH = 30_000, 16
METHOD = "synccache"  # where no method is named, and no speed is asked for


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
    """The method for a model family (``anatomy.name``) where a speed is asked for, and no method named."""
    return DEFAULTS.get(family, OTHERS)


def default_of(method: str) -> dict[str, str]:
    """The model families whose default a method is, each with the reason."""
    families = {**DEFAULTS, "other models": OTHERS}
    return {family: default.why for family, default in families.items() if default.method == method}
