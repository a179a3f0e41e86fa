"""Cutting a pipeline's schedule to fewer steps, on its scheduler instance."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch

from ..errors import InputError


class ShortSchedule:
    """While attached, ``scheduler.set_timesteps`` makes ``steps`` steps, whatever it is asked for.

    Raises:
        InputError: there is no scheduler to shorten.
    """

    def __init__(self, pipeline: Any, steps: int) -> None:
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
        def set_timesteps(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            for name, value in bound.arguments.items():
                if name in ("sigmas", "timesteps") and value is not None:
                    bound.arguments[name] = _resampled(value, steps)
                elif name == "num_inference_steps" and value is not None:
                    bound.arguments[name] = steps
            return original(*bound.args, **bound.kwargs)

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
