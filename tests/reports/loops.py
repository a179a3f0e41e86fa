"""Sampling loops as users write them, around the tiny models of ``models``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from models import wan
from torch import Tensor, nn

import synccache

LATENT = (1, 4, 3, 4, 6)
WIDE = (1, 4, 3, 8, 8)  # enough of it to tell one latent from another where they look alike


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def prompt(seed: int, tokens: int = 5, scale: float = 1.0) -> dict[str, Tensor]:
    """What Wan is told."""
    return {"encoder_hidden_states": scale * noise(seed, 1, tokens, 16)}


def small(layers: int = 4) -> nn.Module:
    return wan.build(layers=layers)


def pipeline(model: nn.Module, scheduler: Any = None) -> SimpleNamespace:
    return SimpleNamespace(transformer=model, scheduler=scheduler or FlowMatchEulerDiscreteScheduler())


def call(model: nn.Module, x: Any, t: Any, given: dict[str, Any], latent: str, timestep: str) -> Tensor:
    """The first tensor that the model gives; ``see`` in ``given`` makes of the latent what the model is called with."""
    arguments = {**given, timestep: t}
    see = arguments.pop("see", None)
    out = model(**{**arguments, latent: x if see is None else see(x)})
    while not isinstance(out, Tensor):
        out = out["sample" if "sample" in out else "x"] if isinstance(out, dict) else out[0]
    return out


@torch.no_grad()
def sample(
    model: nn.Module, passes: Any, x: Tensor, *, scheduler: Any = None, steps: int | None = 20, first: int = 0,
    stop: int | None = None, around: Callable[[int, int], Any] | None = None,
    time: Callable[[Tensor], Any] | None = None,
    names: tuple[str, str] = ("hidden_states", "timestep"), watch: Callable[[int, Tensor], Any] | None = None,
) -> Tensor:  # fmt: skip
    """Denoise ``x`` and give what comes out.

    Args:
        passes: what the model is called with at each step, once for each; or a function of the step's index.
        scheduler: set anew with ``steps``, unless that is None.
        first, stop: of the schedule's steps.
        around: of the step's index and the pass's number, inside which the model is called.
        time: makes the model's timestep of the scheduler's.
        watch: is given each step's index and its new latent.
    """
    scheduler = scheduler or FlowMatchEulerDiscreteScheduler()
    if steps is not None:
        scheduler.set_timesteps(steps)
    noisy = {"generator": torch.Generator().manual_seed(0)}
    noisy = noisy if "generator" in inspect.signature(scheduler.step).parameters else {}
    for step, t in enumerate(scheduler.timesteps[first:stop]):
        seen = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        outputs = []
        for number, given in enumerate(passes(step) if callable(passes) else passes):
            with nullcontext() if around is None else around(step, number):
                now = t.float().reshape(1) if time is None else time(t)
                outputs.append(call(model, seen, now, {"return_dict": False, **given}, *names))
        guided = outputs[0] + sum(1.5 * (outputs[0] - other) for other in outputs[1:])
        x = scheduler.step(guided, t, x, return_dict=False, **noisy)[0]
        if watch is not None:
            watch(step, x)
    return x


def under(target: Any, method: Any, run: Callable[[], Any], **settings: Any) -> Any:
    """What ``run`` gives under a cache of its own: the same run alone."""
    with synccache.cached(target, method, **settings):
        return run()


def bar(handle: synccache.Handle, run: int = -1) -> str:
    """A run's steps: ``#`` computed, ``.`` skipped."""
    return "".join("#" if d == "computed" else "." for d in handle.trace.decisions(run))


def skipped(handle: synccache.Handle) -> int:
    """How many calls were."""
    return sum(r.decision == "skipped" for r in handle.trace)
