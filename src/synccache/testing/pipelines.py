"""A sampling loop with guidance around a toy, as diffusers' pipelines have it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class EulerScheduler:
    """Rectified-flow Euler, with diffusers' names."""

    def __init__(self) -> None:
        self.set_timesteps(10)

    def set_timesteps(
        self, num_inference_steps: int, device: Any = None, sigmas: Sequence[float] | None = None
    ) -> None:
        even = torch.linspace(1, 1 / num_inference_steps, num_inference_steps)
        self.sigmas = torch.cat([even if sigmas is None else torch.tensor(sigmas), torch.zeros(1)])
        self.timesteps = self.sigmas[:-1] * 1000

    def step(self, velocity: Tensor, index: int, sample: Tensor) -> Tensor:
        return sample + (self.sigmas[index + 1] - self.sigmas[index]) * velocity


class Pipeline:
    """Samples a latent with a transformer like ``Video``, from noise and audio that ``seed`` gives.

    Args:
        transformer: called as ``transformer(latent, timestep, audio)``.
        transformer_2: a second expert, for the second half of the steps.
        batched: both guidance branches in one call, the conditional one first; else in two calls, in that order.
    """

    def __init__(self, transformer: nn.Module, transformer_2: nn.Module | None = None, batched: bool = False) -> None:
        self.transformer, self.transformer_2, self.batched = transformer, transformer_2, batched
        self.scheduler = EulerScheduler()

    def __call__(
        self,
        steps: int = 20,
        seed: int = 0,
        shape: Sequence[int] = (1, 4, 2, 4, 4),
        guidance: float = 2.0,
        on_step: Callable[[int], Any] | None = None,
    ) -> Tensor:
        """The last latent [*shape]; ``on_step`` is called with each step's index after it was done."""
        random = torch.Generator().manual_seed(seed)
        x = torch.randn(tuple(shape), generator=random)
        audio = torch.randn(shape[0], 8, generator=random)
        self.scheduler.set_timesteps(steps)
        with torch.no_grad():
            for index, t in enumerate(self.scheduler.timesteps):
                half = self.transformer_2 is not None and index >= len(self.scheduler.timesteps) // 2
                model = self.transformer_2 if half and self.transformer_2 is not None else self.transformer
                time = t.expand(shape[0])
                if self.batched:
                    both = torch.cat([x, x])
                    v = model(both, t.expand(2 * shape[0]), torch.cat([audio, torch.zeros_like(audio)]))
                    cond, uncond = v.chunk(2)
                else:
                    cond = model(x, time, audio)
                    uncond = model(x, time, torch.zeros_like(audio)) if guidance > 1 else cond
                x = self.scheduler.step(uncond + guidance * (cond - uncond), index, x)
                if on_step is not None:
                    on_step(index)
        return x
