"""Captions as the transformer reads them."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from .words import CAPTION_TOKENS, WORDS


class StageTextEncoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A small text encoder: words and their places through two transformer layers.

    Args of ``forward``:
        words: int64 [B, CAPTION_TOKENS], from ``words.tokens_of``; all 0 where nothing is said.

    Returns [B, CAPTION_TOKENS, dim].
    """

    @register_to_config
    def __init__(self, dim: int = 128, heads: int = 4, layers: int = 2, vocabulary: int = len(WORDS)) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, dim)
        self.places = nn.Parameter(torch.randn(CAPTION_TOKENS, dim) * 0.3)
        self.stack = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, heads, 2 * dim, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, words: Tensor) -> Tensor:
        x = self.words(words) + self.places
        for layer in self.stack:
            x = layer(x)
        return self.norm(x)
