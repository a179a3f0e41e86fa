"""EasyCache's error: how much the output has changed, told from how much the latent has."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from ..core.types import Seen, Watch


@dataclass(frozen=True)
class OutputChange:
    """``e = k |x - x_before| / |v_0|`` with ``k = |v_0 - v_1| / |x_0 - x_1|``; |.| is the mean absolute value.

    x is the latent that the model is called with, x_before that of the step before; x_0, v_0 are latent and output of
    the last computed step, x_1, v_1 of the one before that. Known before anything of the model runs; two computed steps
    are needed first. Latents [B, S, C] and [B, C, T, h, w] count per sample; four-dimensional ones, which may be one
    video or a batch of pictures, as a whole, as do latents whose outputs have another batch size.

    Paper: EasyCache, arXiv 2507.02860.
    """

    blocks = 0
    ratios = 1
    watches = MappingProxyType({"latent": Watch(before=True, computed=2), "output": Watch(computed=2)})

    def measure(self, seen: Seen) -> Tensor | None:
        """[B, 2] or [1, 2] float32: ``|v_0 - v_1| |x - x_before|`` and ``|x_0 - x_1| |v_0|``."""
        latent, output = seen.tap("latent"), seen.tap("output")
        if latent.now is None or latent.before is None or min(len(latent.computed), len(output.computed)) < 2:
            return None
        samples = len(latent.now) if latent.now.ndim in (3, 5) and len(output.computed[0]) == len(latent.now) else 1
        (x0, x1), (v0, v1) = latent.computed, output.computed
        changes = [(v0, v1), (latent.now, latent.before), (x0, x1), (v0, None)]
        a, b, c, d = (_size(now, before, samples) for now, before in changes)
        return torch.stack([a * b, c * d], dim=-1)


def _size(now: Tensor, before: Tensor | None, samples: int) -> Tensor:
    """[samples] mean of ``|now - before|``."""
    value = now.detach().float()
    return (value if before is None else value - before.float()).abs().reshape(samples, -1).mean(-1)
