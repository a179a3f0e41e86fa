"""Calling a model on made-up steps, counting what ran, comparing what came out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from .. import Anatomy

Inputs = Mapping[str, Any]
Output = Callable[[Any], Tensor]


def first_tensor(output: Any) -> Tensor:
    """The first tensor of what a model returns: a tensor, a tuple, list or dictionary, or a diffusers output."""
    if isinstance(output, Tensor):
        return output
    values = output.values() if isinstance(output, Mapping) else output
    return first_tensor(next(iter(values)))


def call(model: nn.Module, anatomy: Anatomy, inputs: Inputs) -> Any:
    """A call as pipelines make it: conditioning in the same objects each time, the latent in a tensor of its own."""
    return model(**{name: _copied(v) if name == anatomy.latent else v for name, v in inputs.items()})


def successive(inputs: Inputs, anatomy: Anatomy, steps: int = 3) -> list[dict[str, Any]]:
    """Keyword arguments of successive steps of a run that begins with ``inputs``: timestep and latent move a little."""
    moved = {anatomy.timestep: -0.03, anatomy.latent: -0.05}
    return [
        {name: _scaled(value, 1 + moved[name] * step) if name in moved else value for name, value in inputs.items()}
        for step in range(steps)
    ]


@contextmanager
def count_calls(modules: Mapping[Any, nn.Module]) -> Iterator[Counter[Hashable]]:
    """Inside, a counter says how often each of the modules ran, by its key."""
    counts: Counter[Hashable] = Counter()
    hooks = [m.register_forward_hook(lambda *_, key=key: counts.update([key])) for key, m in modules.items()]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


def distance(a: Tensor, b: Tensor) -> float:
    """How far ``a`` is off ``b``, relative to it: ``|a - b| / |b|``, L2. Infinite where b is zero, NaN where a is."""
    return float((a - b).norm() / b.norm()) if float(b.norm()) else math.inf


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    return type(value)(map(_copied, value)) if type(value) in (list, tuple) else value


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, Tensor):
        return (value * factor).to(value.dtype)
    if type(value) in (list, tuple):
        return type(value)(_scaled(v, factor) for v in value)
    return type(value)(value * factor) if isinstance(value, int | float) and not isinstance(value, bool) else value
