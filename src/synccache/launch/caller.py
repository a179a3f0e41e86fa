"""What the code around a call of a transformer shows: whose transformer it is, and which timesteps it loops over.

Released scripts keep their scheduler in a local variable, or have no scheduler at all, so nothing but the running
sampling loop knows how many steps there are. What is found is evidence only: the engine believes a schedule for as long
as its timesteps are the ones that arrive.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from types import FrameType, SimpleNamespace
from typing import Any

from torch import Tensor, nn

from ..targets import NAMES

DEPTH = 40  # frames that are looked at, innermost first
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "module")


def calling_frames() -> Iterator[FrameType]:
    """The frames of the script and its libraries that are under way on this thread, innermost first."""
    frame: FrameType | None = sys._getframe(1)
    for _ in range(DEPTH):
        if frame is None:
            return
        if frame.f_globals.get("__name__", "").partition(".")[0] not in ("synccache", "torch"):
            yield frame
        frame = frame.f_back


def siblings(model: nn.Module) -> list[nn.Module]:
    """The transformers of the pipeline that is calling ``model``, in the order in which a run calls them."""
    for frame in calling_frames():
        owner = frame.f_locals.get("self")
        held = [unwrapped(getattr(owner, name, None)) for name in NAMES] if owner is not None else []
        if any(m is model for m in held):
            return list(dict.fromkeys(m for m in held if isinstance(m, nn.Module)))
    return [model]


def unwrapped(module: Any) -> Any:
    """The module inside what FSDP, DDP or a compiler put around it."""
    while isinstance(module, nn.Module):
        inner = next((module._modules[n] for n in _WRAPPERS if n in module._modules), None)
        if inner is None:
            break
        module = inner
    return module


class Loop:
    """Stands in for a pipeline: some transformers, and the schedule of whatever loop is calling them at present."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        for name, model in zip(NAMES, models, strict=False):
            setattr(self, name, model)
        self._listed: tuple[Any, Any] = (None, None)

    @property
    def scheduler(self) -> Any:
        """The scheduler of the innermost frame that has one, or an object with the ``timesteps`` that it loops over."""
        for frame in calling_frames():
            found = self._scheduler_in(frame.f_locals)
            if found is not None:
                return found
        return None

    def _scheduler_in(self, variables: Any) -> Any:
        owner = variables.get("self")
        for holder in (*[v for k, v in variables.items() if "scheduler" in k], getattr(owner, "scheduler", None)):
            if _is_list(getattr(holder, "timesteps", None)):
                return holder
        timesteps = variables.get("timesteps")
        if not _is_list(timesteps):
            return None
        if self._listed[0] is not timesteps:
            self._listed = timesteps, _listed(timesteps)
        return self._listed[1]


def _is_list(value: Any) -> bool:
    """Whether it is a list of numbers, or a tensor [T], of two or more."""
    if isinstance(value, Tensor):
        return value.ndim == 1 and value.numel() > 1
    return isinstance(value, list | tuple) and len(value) > 1 and all(map(_is_number, value))


def _is_number(value: Any) -> bool:
    return value.numel() == 1 if isinstance(value, Tensor) else isinstance(value, int | float)


def _listed(timesteps: Any) -> Any:
    """A scheduler with these timesteps. A last one of 0 is where the loop ends, and no step."""
    values = [float(t) for t in timesteps]
    values = values[:-1] if values[-1] == 0 else values
    return SimpleNamespace(timesteps=values, num_inference_steps=len(values), order=1)
