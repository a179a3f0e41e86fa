"""Weights averaged over a training run: what is kept of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .text import StageTextEncoder
from .transformer import StageTransformer


class Ema:
    """Exponential moving average of modules' parameters, with a warm-up of the decay."""

    def __init__(self, modules: nn.ModuleDict, decay: float) -> None:
        self.decay = decay
        self.state = {k: v.detach().clone() for k, v in modules.state_dict().items()}

    @torch.no_grad()
    def update(self, modules: nn.ModuleDict, step: int) -> None:
        decay = min(self.decay, (step + 1) / (step + 10))
        current = modules.state_dict()
        torch._foreach_lerp_(list(self.state.values()), [current[k] for k in self.state], 1 - decay)


def averages(
    transformer: StageTransformer, encoder: StageTextEncoder, ema: Ema
) -> tuple[StageTransformer, StageTextEncoder]:
    """Models with the averaged weights, on the CPU, in evaluation mode."""
    pair = StageTransformer(**_sizes(transformer)), StageTextEncoder(**_sizes(encoder))
    nn.ModuleDict({"transformer": pair[0], "text_encoder": pair[1]}).load_state_dict(ema.state)
    return pair[0].eval(), pair[1].eval()


def _sizes(model: Any) -> dict[str, Any]:
    return {k: v for k, v in dict(model.config).items() if not k.startswith("_")}
