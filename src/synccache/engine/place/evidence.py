"""What one call shows of where it belongs, and where that is once it is found."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from torch import Tensor

from ...core.anatomy import Anatomy
from .branch import Branch
from .conditioning import Conditioning, Prints
from .latents import Latents, Likeness
from .schedule import UNKNOWN, Schedule
from .told import Told


class Evidence:
    """What a call shows of its place in a run, and what the clock finds by it. Every ``Call`` is one.

    Attributes:
        told, label: what the caller tells, and the branch's name by that or by the model's own options.
        schedule: of the pipeline's scheduler at present, if there is one.
        time: the timesteps that the call carries; ``UNKNOWN`` while they are on the device.
        latents, conditioning: its arguments; ``sample``: of the latent, where it isn't plainly the step's.
        prints: numbers of the conditioning; None where identity settles which branch it is.
        likeness: of its latent to that of the step so far; None where there is none, or it needn't be known.
        branch: its guidance branch, once found.
        new_run, new_evaluation: this call is the first of its run; of its step or evaluation.
        new_batch: the branch was called with another batch size before.
        changed: names of the branch's arguments that have other values than on its call before, where they haven't so
            at every call.
    """

    branch: Branch
    new_run: bool
    new_evaluation: bool
    new_batch: bool
    changed: frozenset[str]

    def __init__(
        self, bound: Mapping[str, Any], anatomy: Anatomy, told: Told, label: Hashable, schedule: Schedule | None
    ) -> None:
        self.told, self.label, self.schedule = told, label, schedule
        self.time = UNKNOWN
        self.latents = Latents(bound[anatomy.latent])
        self.conditioning = Conditioning(bound, (anatomy.timestep, anatomy.latent), self.latents.batch)
        self.sample: Tensor | None = None
        self.prints: Prints | None = None
        self.likeness: Likeness | None = None
