"""Cutting a pipeline's schedule to fewer steps, on its scheduler instance."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from ..errors import InputError


class Number(Protocol):
    """A number of steps that follows from that of the run."""

    def steps(self, total: int, cost: float | None = None) -> int: ...


@dataclass(frozen=True)
class Fewer:
    """As many steps as asked for here, where the scheduler itself puts them.

    Args:
        steps: their number, or what it follows from; a run that is asked for fewer keeps its own.
    """

    steps: int | Number

    def length(self, asked: int) -> int:
        """Steps of a run that is asked for ``asked``."""
        return min(self.steps if isinstance(self.steps, int) else self.steps.steps(asked, 0.0), asked)

    def set_timesteps(self, scheduler: Any, original: Any, bound: inspect.BoundArguments) -> None:
        """Call ``original``, the scheduler's own, for fewer steps than ``bound`` says."""
        for name, value in bound.arguments.items():
            if name in ("sigmas", "timesteps") and value is not None:
                bound.arguments[name] = _resampled(value, self.length(len(value)))
            elif name == "num_inference_steps" and value is not None:
                bound.arguments[name] = self.length(value)
        original(*bound.args, **bound.kwargs)


@dataclass(frozen=True)
class Picked:
    """Some of the steps of the run that was asked for; the sampler goes from one to the next.

    Args:
        steps: their indices, rising, from 0.
        total: steps of the run that they are meant for; any that is long enough by default.
    """

    steps: tuple[int, ...]
    total: int | None = None

    def length(self, asked: int) -> int:
        """Steps of a run that is asked for ``asked``."""
        return len(self.steps)

    def set_timesteps(self, scheduler: Any, original: Any, bound: inspect.BoundArguments) -> None:
        """Call ``original``, the scheduler's own, and keep some of its steps.

        Raises:
            InputError: the run has another length, or the scheduler isn't one that goes by ``sigmas``, one a step.
        """
        original(*bound.args, **bound.kwargs)
        timesteps: Any = scheduler.timesteps
        sigmas: Any = getattr(scheduler, "sigmas", ())
        if len(sigmas) != len(timesteps) + 1:
            raise InputError(
                f"Steps can be picked from schedulers that hold one sigma a step and one for the end, and a "
                f"{type(scheduler).__name__} has {len(timesteps)} steps and {len(sigmas)} sigmas. Use UniPC, DPM++ or "
                "flow matching's Euler."
            )
        if self.total not in (None, len(timesteps)) or self.steps[-1] >= len(timesteps):
            wanted = self.total or f"more than {self.steps[-1]}"
            raise InputError(f"The steps are picked from a run of {wanted} steps, and this run has {len(timesteps)}.")
        kept = list(self.steps)
        scheduler.timesteps = timesteps[kept]
        scheduler.sigmas = torch.cat([sigmas[kept], sigmas[-1:]])
        scheduler.num_inference_steps = len(kept)


class ShortSchedule:
    """While attached, ``scheduler.set_timesteps`` makes fewer steps than it is asked for.

    Raises:
        InputError: there is no scheduler to shorten.
    """

    def __init__(self, pipeline: Any, shorten: Fewer | Picked) -> None:
        scheduler: Any = getattr(pipeline, "scheduler", None)
        if not hasattr(scheduler, "set_timesteps"):
            raise InputError(
                "Fewer steps need a pipeline whose .scheduler has set_timesteps. Apply the method to the pipeline, not "
                "to its transformer, or ask your sampler for fewer steps yourself."
            )
        self.scheduler: Any = scheduler
        original = scheduler.set_timesteps
        signature = inspect.signature(original)

        @functools.wraps(original)
        def set_timesteps(*args: Any, **kwargs: Any) -> None:
            shorten.set_timesteps(scheduler, original, signature.bind(*args, **kwargs))

        scheduler.set_timesteps = set_timesteps

    def remove(self) -> None:
        self.scheduler.__dict__.pop("set_timesteps", None)


def _resampled(values: Any, count: int) -> Any:
    """``count`` values along the same curve as ``values``; same kind of container."""
    points = torch.as_tensor(values, dtype=torch.float64)
    place = torch.linspace(0, len(points) - 1, count, dtype=torch.float64)
    low = place.floor().long().clamp(max=max(0, len(points) - 2))
    high = (low + 1).clamp(max=len(points) - 1)
    new = points[low] + (place - low) * (points[high] - points[low])
    return new.to(values) if isinstance(values, torch.Tensor) else new.tolist()
