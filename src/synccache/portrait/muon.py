"""Muon (Jordan et al., 2024) for many small matrices on a CPU: equal shapes orthogonalised together, in float32.

``torch.optim.Muon`` orthogonalises one matrix at a time in bfloat16, which took a quarter of a training step here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Nearest semi-orthogonal matrices [N, R, C], by the quintic Newton-Schulz iteration."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.transpose(1, 2) if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, then orthogonalisation; the step of an R x C matrix is scaled by sqrt(max(1, R / C))."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float = 2e-2, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes[parameter.shape].append(parameter)
            for (rows, columns), parameters in shapes.items():
                moved: list[Tensor] = [*parameters]
                gradients = [p.grad for p in parameters if p.grad is not None]
                buffers = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in parameters]
                torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
                updates = torch._foreach_lerp(gradients, buffers, group["momentum"])
                directions = orthogonalise(torch.stack(updates)).unbind()
                torch._foreach_add_(moved, directions, alpha=-group["lr"] * max(1, rows / columns) ** 0.5)
