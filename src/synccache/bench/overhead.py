"""How far a measured speed-up is from what is possible: calls in which all blocks but the first do nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ..portrait.data import to_pixels
from ..portrait.pipeline import PortraitPipeline
from .heldout import HeldOut

IDENTITY_STEPS = 4


def ideal_speedup(steps: int, computed: int, full: float, identity: float) -> float:
    """T f / (n f + (T - n) l): what ``computed`` of ``steps`` give if a skipped call costs only what has to stay live.

    Args:
        full: seconds of a call of the untouched model, f.
        identity: seconds of a call in which the skipped blocks are replaced by the identity, l.
    """
    return steps * full / (computed * full + (steps - computed) * identity)


def identity_seconds(pipe: PortraitPipeline, person: HeldOut) -> float:
    """Seconds of a call in which all blocks but the first do nothing."""
    clip = person.clip
    with _identity_blocks(pipe.transformer):
        start = time.perf_counter()
        pipe.denoise(to_pixels(clip.portrait)[None], clip.features[None], steps=IDENTITY_STEPS, seeds=[person.index])
        return (time.perf_counter() - start) / (2 * IDENTITY_STEPS)


class _Identity(nn.Module):
    def forward(self, hidden_states: Tensor, *_: Any) -> Tensor:
        return hidden_states


@contextmanager
def _identity_blocks(transformer: Any) -> Iterator[None]:
    blocks = transformer.blocks
    transformer.blocks = nn.ModuleList([blocks[0], *(_Identity() for _ in blocks[1:])])
    try:
        yield
    finally:
        transformer.blocks = blocks
