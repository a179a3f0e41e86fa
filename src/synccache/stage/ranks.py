"""Several processes that train one model, each with its share of every batch, as ``torchrun`` starts them.

On CPUs that are shared with other work two processes of one thread are more than twice as fast as one of two threads,
which wait for each other thousands of times a step.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Ranks:
    """This process's ``number`` among ``count`` that train together."""

    number: int = 0
    count: int = 1

    @torch.no_grad()
    def average(self, module: nn.Module, values: Tensor) -> Tensor:
        """Replace the gradients by their mean over all processes; return that of ``values`` [N] as well."""
        if self.count == 1:
            return values
        gradients = []
        for parameter in module.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        flat = torch.cat([*(g.flatten() for g in gradients), values.to(gradients[0])])
        dist.all_reduce(flat)
        flat /= self.count
        *means, rest = flat.split([*(g.numel() for g in gradients), len(values)])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))
        return rest.cpu()

    @torch.no_grad()
    def align(self, module: nn.Module) -> None:
        """Give all processes the first one's weights: equal arithmetic may round apart."""
        if self.count > 1:
            for parameter in module.parameters():
                dist.broadcast(parameter.data, 0)


def joined() -> Ranks:
    """The processes that ``torchrun`` started, this one among them; else this one alone."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Ranks()
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    return Ranks(dist.get_rank(), count)
