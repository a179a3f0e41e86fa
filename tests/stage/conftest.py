"""A tiny stage model."""

import pytest
import torch

from synccache.portrait.hearing import FEATURES, TOKENS
from synccache.stage.scenes import STREAMS
from synccache.stage.text import StageTextEncoder
from synccache.stage.transformer import StageTransformer


@pytest.fixture
def tiny():
    """(transformer, text encoder) whose every weight matters."""
    torch.manual_seed(0)
    pair = StageTransformer(32, 48, 2, 4, (0, 1, 3)), StageTextEncoder(32, 2, 1)
    return tuple(model.eval() for model in pair)


@pytest.fixture
def inputs(tiny):
    """Gives keyword arguments of the transformer's forward for clips of some frames and size."""

    def made(frames=4, size=16, batch=2, seed=1):
        generator = torch.Generator().manual_seed(seed)

        def noise(*shape):
            return torch.randn(shape, generator=generator)

        return {
            "hidden_states": noise(batch, 3, frames, size, size),
            "timestep": torch.full((batch,), 700.0),
            "encoder_hidden_states": noise(batch, 20, 32),
            "audio": noise(batch, STREAMS, frames, TOKENS, FEATURES + 1),
        }

    return made
