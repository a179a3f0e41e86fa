"""What all runs of a clip have in common is computed once: their first steps, until each leaves out something else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..anatomies import find
from ..portrait.data import to_pixels
from ..portrait.pipeline import PortraitPipeline
from .heldout import HeldOut

FIRST_STEPS = 8  # some methods compute all of them, most the first two to five


class _Enough(Exception):
    pass


@contextmanager
def shared_start(pipe: PortraitPipeline, person: HeldOut, steps: int = 40) -> Iterator[None]:
    """Have the model's blocks and larger modules answer from a store what they have answered before, bit for bit.

    The store is filled by the first steps of the uncached run. A module gives what it would give without; seconds mean
    nothing, so this is for runs of which only the pictures count. Caches hook a module's call, which is left alone.
    """
    model, anatomy = pipe.transformer, find(pipe.transformer)
    parts = {block: [getattr(block, name) for name in anatomy.parts(i)] for i, block in enumerate(anatomy.blocks)}
    modules = [*parts, *(part for inside in parts.values() for part in inside)]
    modules += [*model.audio_modules.values(), model.patch_embed, model.reference_embed, model.context_embed]
    modules += [model.change_out, model.move_out]
    store: dict[Any, tuple[list[Tensor], Tensor]] = {}
    recording = True

    def answered(module: nn.Module, run: Callable[..., Tensor]) -> Callable[..., Tensor]:
        inside = parts.get(module, ())

        def forward(*args: Any, **kwargs: Any) -> Tensor:
            if any("_call_impl" in vars(part) for part in inside):  # a cache wants to see them run
                return run(*args, **kwargs)
            given = list(_tensors((args, kwargs)))
            key = (id(module), *given[0].flatten()[:4].tolist())
            known = store.get(key)
            if known and len(known[0]) == len(given) and all(map(torch.equal, known[0], given)):
                return known[1].clone()
            result = run(*args, **kwargs)
            if recording:
                store[key] = [tensor.clone() for tensor in given], result.clone()
            return result

        return forward

    def stop(done: int, _: int) -> None:
        if done == FIRST_STEPS:
            raise _Enough

    for module in modules:
        module.__dict__["forward"] = answered(module, module.forward)
    try:
        clip = person.clip
        try:
            pipe.denoise(
                to_pixels(clip.portrait)[None], clip.features[None], steps=steps, seeds=[person.index], on_step=stop
            )
        except _Enough:
            recording = False
        yield
    finally:
        for module in modules:
            del module.__dict__["forward"]


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)
