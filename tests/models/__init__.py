"""Tiny, randomly weighted models of every anatomy, for the contract suite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Case:
    """One model at a tiny configuration.

    Attributes:
        name: of the test.
        anatomy: the name that ``anatomies.find`` has to give it.
        build: makes the model: seeded weights (none of them zero), eval mode, float32, a few blocks of width 8 to 64.
        inputs: keyword arguments of its forward by seed, but for the timestep; same shapes for every seed.
        timestep: name of the timestep argument; called with values like 900.0 down to 0 (or what ``times`` gives).
        times: the timestep's value for step 0, 1, 2, ... as a tensor of the model's liking.
        output: picks the tensor to compare from what the forward returns.
        live: dotted names of modules that must run on every step, skipped ones too, and their number of calls.
        changed: the inputs with another conditioning, to which those modules must react; None without such modules.
        filled: number of blocks that a step with everything filled in leaves out (those after the first, at least).
    """

    name: str
    anatomy: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int], dict[str, Any]]
    times: Callable[[int], Any]
    filled: int
    timestep: str = "timestep"
    output: Callable[[Any], Any] = lambda out: out[0]
    live: tuple[str, ...] = ()
    changed: Callable[[dict[str, Any]], dict[str, Any]] | None = None


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """``build()`` with weights from seed 0, none of which is left at a constant: zeroed layers would hide errors."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build().eval()
        with torch.no_grad():
            for weights in model.parameters():
                if weights.numel() > 1 and bool((weights == weights.reshape(-1)[0]).all()):
                    weights.add_(0.2 * torch.randn_like(weights))
    return model


class Noise:
    """Inputs by seed: each call gives the next [*shape] of normal noise."""

    def __init__(self, seed: int) -> None:
        self.random = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.random)


def falling(step: int) -> Tensor:
    """Timestep [1] of step 0, 1, 2, ...: 900, 870, 840, ..."""
    return torch.tensor([900.0 - 30 * step])
