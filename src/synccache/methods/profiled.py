"""What recipes take from a profile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..engine.types import Forecaster, Run
from ..errors import InputError
from ..forecasters import Lagrange, Reuse
from ..gates import Listed
from ..scopes import WholeModel
from .recipe import Settings


def learned(s: Settings, method: str, name: str, what: str) -> Tensor:
    """The tensor ``name`` of the setting ``profile``.

    Raises:
        InputError: there is no profile, or no such tensor in it; ``what`` says in words what is missing.
    """
    make = f"Make one with: synccache profile --method {method} --out profile.safetensors"
    if s["profile"] is None:
        raise InputError(f"The method {method!r} needs profile=..., with {what}. {make}")
    if name not in s["profile"].tensors:
        found = ", ".join(s["profile"].tensors)
        raise InputError(f"The profile holds {found}, and the method {method!r} needs {name!r}, {what}. {make}")
    return s["profile"].tensors[name]


@dataclass(frozen=True)
class ListedFor(Listed):
    """A list of steps that was learnt for runs of one length; others are refused as they start."""

    steps: int = 0
    method: str = ""

    def init(self, run: Run) -> None:
        if run.total != self.steps:
            found = "nobody tells how long this run is" if run.total is None else f"this run has {run.total}"
            raise InputError(
                f"The profile is for runs of {self.steps} steps, and {found}. Use as many steps (steps= tells, where "
                f"no scheduler does), or profile a run of this length: synccache profile --method {self.method} "
                "--steps N."
            )


def line_or_reuse(order: int) -> Forecaster:
    """The polynomial of that order through the newest anchors; of order 0 it is reuse."""
    return Lagrange(order) if order else Reuse()


def best_listed(
    s: Settings, method: str, forecaster: Forecaster, gram: Tensor, costs: Tensor | None = None
) -> ListedFor:
    """The ``computed_steps`` steps from which ``forecaster`` fills in the others best, by features' products [T, T]."""
    found = best_steps(gram, forecaster, s["computed_steps"], costs)
    return ListedFor(frozenset(found), steps=len(gram), method=method)


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
