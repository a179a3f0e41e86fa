"""A model that carries text and image side by side, and then in one sequence, as FLUX and HunyuanVideo do."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .toys import seeded


class DoubleBlock(nn.Module):
    """Two streams in, two out, text first."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.calls = 0

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor, temb: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        mixed = encoder_hidden_states.mean(1, keepdim=True)
        image = hidden_states + (self.image(hidden_states) + mixed + temb[:, None]).tanh()
        text = encoder_hidden_states + (self.text(encoder_hidden_states) + hidden_states.mean(1, keepdim=True)).tanh()
        return text, image


class SingleBlock(nn.Module):
    """One stream, of text and image tokens; its second argument is always None."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mix = nn.Linear(dim, dim)
        self.calls = 0

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor | None, temb: Tensor) -> Tensor:
        self.calls += 1
        return hidden_states + (self.mix(hidden_states) + temb[:, None]).tanh()


class TwoStream(nn.Module):
    """Four double blocks, a concatenation, three single blocks.

    Args:
        dim: width of a token; image [B, S, dim] and text [B, L, dim] come embedded.
        text_too: give back all tokens, text first, instead of the image's.
    """

    def __init__(self, dim: int = 8, text_too: bool = False) -> None:
        super().__init__()
        self.text_too = text_too
        with seeded(0):
            self.transformer_blocks = nn.ModuleList(DoubleBlock(dim) for _ in range(4))
            self.single_transformer_blocks = nn.ModuleList(SingleBlock(dim) for _ in range(3))

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor, timestep: Tensor) -> Tensor:
        temb = (timestep.float() / 1000)[:, None].expand(-1, hidden_states.shape[-1]).to(hidden_states)
        text, image = encoder_hidden_states, hidden_states
        for block in self.transformer_blocks:
            text, image = block(hidden_states=image, encoder_hidden_states=text, temb=temb)
        joint = torch.cat([text, image], dim=1)
        for block in self.single_transformer_blocks:
            joint = block(joint, None, temb)
        return joint if self.text_too else joint[:, text.shape[1] :]
