"""What only training hears: the lips, read from the tokens after every audio module."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .transformer import PortraitTransformer


class LipReader(nn.Module):
    """Reads opening and width of the lips from the video tokens around the mouth, after every audio module.

    Only training hears it. Without it the mouth learns what pixels tell of it, and the tokens hold less of the sound
    than the audio embedding does.
    """

    def __init__(self, model: PortraitTransformer) -> None:
        super().__init__()
        dim = model.config.dim
        self.grid = model.grid
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        readers = {name: nn.Linear(dim, 2) for name in model.audio_modules}
        for reader in readers.values():
            nn.init.zeros_(reader.weight)
        self.readers = nn.ModuleDict(readers)
        self._tokens: dict[str, Tensor] = {}
        for name, module in model.audio_modules.items():
            module.register_forward_hook(partial(self._hear, name))

    def _hear(self, name: str, _module: nn.Module, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        self._tokens[name] = inputs[0] + output

    def forward(self, mouth: Tensor, lips: Tensor, heard: Tensor) -> Tensor:
        """Mean squared error for ``lips`` [B, T, 2] of the model's last call, where audio was ``heard`` [B].

        ``mouth`` [B, H, W] is the soft mask of where to look.
        """
        where = F.adaptive_avg_pool2d(mouth[:, None], self.grid).flatten(2)
        where = where / where.sum(-1, keepdim=True).clamp_min(1e-6)
        error = torch.zeros(())
        for name, reader in self.readers.items():
            tokens = self._tokens.pop(name).unflatten(1, (lips.shape[1], -1))
            seen = reader(self.norm(torch.einsum("bn,btnd->btd", where[:, 0], tokens)))
            error = error + ((seen - lips).square().mean((1, 2)) * heard).mean() / len(self.readers)
        return error
