"""How far a measured speed-up is from what is possible: calls in which all blocks that are skipped do nothing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ..portrait.data import to_pixels
from ..portrait.pipeline import PortraitPipeline
from .heldout import HeldOut

IDENTITY_STEPS, REPEATS = 4, 3


def ideal_speedup(steps: int, computed: int, full: float, identity: float) -> float:
    """T f / (n f + (T - n) l): what ``computed`` of ``steps`` give if a skipped call costs only what has to stay live.

    Args:
        full: seconds of a call of the untouched model, f.
        identity: seconds of a call in which the skipped blocks are replaced by the identity, l.
    """
    return steps * full / (computed * full + (steps - computed) * identity)


def identity_share(pipe: PortraitPipeline, person: HeldOut, live: Collection[int]) -> tuple[float, float]:
    """What is left of a run and of a call of the model, as parts, where all blocks but the ``live`` ones do nothing.

    The medians of a few pairs, one run right behind the other, so that the machine's pace cancels out.
    """
    pairs = []
    for _ in range(REPEATS):
        with _identity_blocks(pipe.transformer, live):
            idle = _seconds(pipe, person)
        pairs.append([part / whole for part, whole in zip(idle, _seconds(pipe, person), strict=True)])
    run, call = (statistics.median(shares) for shares in zip(*pairs, strict=True))
    return run, call


def _seconds(pipe: PortraitPipeline, person: HeldOut) -> tuple[float, float]:
    """Of a short run: all of it, and what its calls of the model take, without the solver."""
    clip, starts, ends = person.clip, [], []
    hooks = (
        pipe.transformer.register_forward_pre_hook(lambda *_: starts.append(time.perf_counter())),
        pipe.transformer.register_forward_hook(lambda *_: ends.append(time.perf_counter())),
    )
    begun = time.perf_counter()
    pipe.denoise(to_pixels(clip.portrait)[None], clip.features[None], steps=IDENTITY_STEPS, seeds=[person.index])
    seconds = time.perf_counter() - begun
    for hook in hooks:
        hook.remove()
    return seconds, sum(ends) - sum(starts)


class _Identity(nn.Module):
    def forward(self, hidden_states: Tensor, *_: Any) -> Tensor:
        return hidden_states


@contextmanager
def _identity_blocks(transformer: Any, live: Collection[int]) -> Iterator[None]:
    blocks = transformer.blocks
    transformer.blocks = nn.ModuleList([b if i in live else _Identity() for i, b in enumerate(blocks)])
    try:
        yield
    finally:
        transformer.blocks = blocks
