"""What recipes take from a profile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from ..engine.types import Forecaster
from ..errors import InputError
from ..forecasters import Lagrange, Reuse
from ..scopes import WholeModel
from .profiled_gates import ListedFor
from .recipe import Settings


def learned(s: Settings, method: str, name: str, what: str, shape: Sequence[int | None] | None = None) -> Tensor:
    """The tensor ``name`` of the setting ``profile``, of the ``shape`` (by default a row and a column for each step).

    Raises:
        InputError: there is no profile, or no such tensor in it; ``what`` says in words what is missing.
    """
    if s["profile"] is None:
        from ..planner.profile import remedy  # methods know nothing of the planner until they need it

        raise InputError(f"The method {method!r} needs profile=..., with {what}. {remedy(method)}")
    steps = s["profile"].steps
    return s["profile"].tensor(name, (steps, steps) if shape is None else shape)


def line_or_reuse(order: int) -> Forecaster:
    """The polynomial of that order through the newest anchors; of order 0 it is reuse."""
    return Lagrange(order) if order else Reuse()


def best_listed(
    s: Settings, method: str, forecaster: Forecaster, gram: Tensor, costs: Tensor | None = None
) -> ListedFor:
    """The ``computed_steps`` steps from which ``forecaster`` fills in the others best, by features' products [T, T].

    In a composed method (``"forecaster"``) another one fills them in: the search is for that, if it can be.
    """
    from ..planner.schedules import can_be_searched_for

    other = s.get("forecaster")
    forecaster = other if other is not None and can_be_searched_for(other) else forecaster
    found = best_steps(gram, forecaster, s["computed_steps"], costs)
    return ListedFor(frozenset(found), steps=len(gram), method=method, timesteps=s["profile"].timesteps)


def best_steps(gram: Tensor, forecaster: Forecaster, computed: int, costs: Tensor | None = None) -> tuple[int, ...]:
    """As ``planner.schedules.best_schedule``."""
    from ..planner.schedules import best_schedule  # methods know nothing of the planner until they need it

    return best_schedule(gram, forecaster, computed, costs)


def output_products(target: Any, call: Callable[[], Any], s: Settings) -> Tensor:
    """[T, T] float64: inner products of what the model returns on the steps of one uncached run."""
    from ..planner.record import record

    outputs = record(target, call, scope=WholeModel(), **s).outputs.double()
    return outputs @ outputs.T


def learn_outputs(target: Any, call: Callable[[], Any], s: Settings) -> dict[str, Tensor]:
    """``gram`` [T, T] float64: ``output_products`` in units of the outputs' mean square."""
    products = output_products(target, call, s)
    return {"gram": products / products.diagonal().mean()}
