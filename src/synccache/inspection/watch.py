"""Watching one computed call: which streams the blocks carry, how large they are, and what happens in between."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from ..core.anatomy import Anatomy, bind, original_class
from ..core.structure import Structure

Shapes = dict[int, dict[str, tuple[int, ...]]]  # by block, by stream


def watch(model: nn.Module, anatomy: Anatomy, arguments: Mapping[str, Any]) -> tuple[Structure, Shapes]:
    """Call ``model`` once (twice where a guess at the streams has to be corrected) and see what its blocks are given.

    Needs no values: it works on tensors without storage.

    Returns what was learnt, and the shape of every stream at every block.
    """
    structure = Structure(anatomy)
    seen: dict[int, dict[str, Any]] = {}
    with ExitStack() as stack, torch.no_grad():
        for index, block in enumerate(anatomy.blocks):

            def enter(module: nn.Module, args: tuple, kwargs: dict, index: int = index) -> None:
                bound = bind(original_class(module), args, kwargs)
                seen[index] = {n: tuple(v.shape) for n, v in bound.items() if isinstance(v, Tensor)}
                structure.enter(index, bound)

            def leave(module: nn.Module, args: tuple, kwargs: dict, output: Any, index: int = index) -> None:
                structure.leave(index, bind(original_class(module), args, kwargs), output)

            stack.callback(block.register_forward_pre_hook(enter, with_kwargs=True).remove)
            stack.callback(block.register_forward_hook(leave, with_kwargs=True).remove)
        model(**arguments)
        if structure.settle():
            model(**arguments)
            structure.settle()
    shapes = {i: {n: seen[i][n] for n in structure.streams(i) if n in seen[i]} for i in sorted(seen)}
    return structure, shapes
