"""A transformer of your own, with audio that enters between its blocks. Needs torch alone; runs in a second.

python examples/own_model.py
"""

import torch
from torch import nn

import synccache
from synccache.testing import check_anatomy


class Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Linear(width, width)

    def forward(self, tokens, time):
        return tokens + torch.tanh(self.mix(tokens) + time)


class Singer(nn.Module):
    """Latents [B, 4, T, H, W] in and out; audio [B, 8] is added after blocks 1 and 4."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.patches = nn.Conv3d(4, width, (1, 2, 2), (1, 2, 2))
        self.layers = nn.ModuleList(Layer(width) for _ in range(8))
        self.listen, self.head = nn.Linear(8, width), nn.Linear(width, 16)

    def forward(self, noisy, moment, audio):
        size, x = noisy.shape, self.patches(noisy).flatten(2).transpose(1, 2)
        for index, layer in enumerate(self.layers):
            x = layer(x, moment[:, None, None] / 1000)
            if index in (1, 4):
                x = x + self.listen(audio)[:, None]
        x = self.head(x).unflatten(1, (size[2], size[3] // 2, size[4] // 2)).unflatten(-1, (4, 2, 2))
        return x.permute(0, 4, 1, 2, 5, 3, 6).reshape(size)


def grid(arguments):
    """The video tokens' (t, h, w)."""
    t, h, w = arguments["noisy"].shape[-3:]
    return t, h // 2, w // 2


def anatomy_of(model: Singer) -> synccache.Anatomy:
    """What can't be found: two arguments have names of their own."""
    return synccache.Anatomy(
        "singer", tuple(model.layers), timestep="moment", latent="noisy", sites=(1, 4),
        streams={"Layer": {"tokens": 0}}, grid=grid, live=("audio",),
    )  # fmt: skip


@torch.no_grad()
def sample(model: Singer, audio, steps: int = 20):
    latents = torch.randn(1, 4, 2, 8, 12, generator=torch.Generator().manual_seed(0))
    for step in range(steps):
        latents = latents - model(latents, torch.tensor([1000.0 * (1 - step / steps)]), audio) / steps
    return latents


torch.manual_seed(0)
model, audio, other = Singer().eval(), torch.randn(1, 8), torch.randn(1, 8)
known = anatomy_of(model)
inputs = {"noisy": torch.randn(1, 4, 2, 8, 12), "moment": torch.tensor([500.0]), "audio": audio}
check_anatomy(model, known, inputs, changed={**inputs, "audio": other})

plain = sample(model, audio)
for method in ("synccache", "synccache-linear"):
    with synccache.cached(model, method, computed_steps=8, steps=20, anatomy=known) as handle:
        fast = sample(model, audio)
    print(handle.trace.summary())
    print(f"{method}: off by {(fast - plain).norm() / plain.norm():.1%}\n")
