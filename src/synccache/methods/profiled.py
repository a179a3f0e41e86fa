"""What recipes take from a profile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..engine.types import Forecaster
from ..errors import InputError
from ..forecasters import Lagrange, Reuse
from ..scopes import WholeModel
from .profiled_gates import ListedFor
from .recipe import Settings

MAKE = "Make one with: synccache profile --method {} --out profile.safetensors"


def learned(s: Settings, method: str, name: str, what: str) -> Tensor:
    """The tensor ``name`` of the setting ``profile``.

    Raises:
        InputError: there is no profile, or no such tensor in it; ``what`` says in words what is missing.
    """
    make = MAKE.format(method)
    if s["profile"] is None:
        raise InputError(f"The method {method!r} needs profile=..., with {what}. {make}")
    if name not in s["profile"].tensors:
        found = ", ".join(s["profile"].tensors)
        raise InputError(f"The profile holds {found}, and the method {method!r} needs {name!r}, {what}. {make}")
    return s["profile"].tensors[name]


def in_force(s: Settings, instead: str) -> Settings:
    """The settings, without a profile that nobody asked for where ``instead`` is set, which takes its place."""
    profile = s["profile"]
    return {**s, "profile": None} if profile is not None and profile.shipped and s[instead] is not None else s


def check_learnt_so(s: Settings, name: str) -> None:
    """Raise InputError where the profile was learnt with another value of the setting ``name``."""
    profile = s["profile"]
    known = s[name] if profile is None else profile.settings.get(name, s[name])
    if known != s[name]:
        raise InputError(
            f"The profile was learnt with {name}={known}, and {name}={s[name]} is set. Make one with: synccache "
            f"profile --method {profile.method} --set {name}={str(s[name]).lower()} --out profile.safetensors"
        )


def line_or_reuse(order: int) -> Forecaster:
    """The polynomial of that order through the newest anchors; of order 0 it is reuse."""
    return Lagrange(order) if order else Reuse()


def best_listed(
    s: Settings, method: str, forecaster: Forecaster, gram: Tensor, costs: Tensor | None = None
) -> ListedFor:
    """The ``computed_steps`` steps from which ``forecaster`` fills in the others best, by features' products [T, T]."""
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
