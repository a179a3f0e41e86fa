"""The first call of a model whose blocks are found by structure: what ran, in which order, with what."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from torch import nn

from ...core.anatomy import Anatomy, Visit, bind, original_class
from .hook import Hook


def observed(anatomy: Anatomy, run: Callable[[], Any]) -> tuple[Any, Anatomy]:
    """Run a model once with all ``candidates`` in view: what it returns, and its anatomy as that call showed it."""
    visits: list[Visit] = []
    open_visits: list[int] = []

    def seeing(module: nn.Module) -> Callable[[Callable[..., Any], tuple, dict[str, Any]], Any]:
        def act(run: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
            number, bound = len(visits), bind(original_class(module), args, kwargs)
            visits.append(Visit(module, bound, None, open_visits[-1] if open_visits else None))
            open_visits.append(number)
            try:
                output = run(*args, **kwargs)
            finally:
                open_visits.pop()
            visit = replace(visits[number], output=output)
            visits[number] = visit if anatomy.glance is None else anatomy.glance(visit)
            return output

        return act

    with ExitStack() as stack:
        for module in anatomy.candidates:
            stack.callback(Hook(module, seeing(module)).remove)
        output = run()
    assert anatomy.observe is not None
    try:
        return output, anatomy.observe(visits)
    except RuntimeError:  # values that can't be read, as of tensors that are split over ranks
        return output, replace(anatomy, blocks=(), observe=None)
