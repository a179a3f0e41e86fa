"""The built-in stage model at a tiny configuration."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from synccache.stage.transformer import StageTransformer

from . import Case, Noise, falling, seeded


def stage(seed: int) -> dict[str, Any]:
    """Four frames that edit a clip: a pair of frames at a time, each with ten audio tokens."""
    noise = Noise(seed)
    return {
        "hidden_states": noise(1, 3, 4, 16, 16), "encoder_hidden_states": noise(1, 20, 24), "audio": sounds(seed),
        "source": noise(1, 3, 4, 16, 16).clamp(-1, 1), "return_dict": False,
    }  # fmt: skip


def sounds(seed: int) -> Tensor:
    return Noise(seed + 100)(1, 2, 4, 5, 65)


CASES = (
    Case(
        "stage", "stage", lambda: seeded(lambda: StageTransformer(24, 32, 2, 5, (0, 2, 4))), stage, falling, filled=5,
        live=("injectors.0", "injectors.2", "injectors.4"), changed=lambda inputs: {**inputs, "audio": sounds(7)},
    ),
)  # fmt: skip
