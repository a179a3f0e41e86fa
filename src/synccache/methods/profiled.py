"""What recipes take from a profile, and what several of them learn."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..core.pace import steps_of
from ..core.types import Forecaster
from ..forecasters import Lagrange, Reuse
from ..gates.schedules import best_schedule, can_be_searched_for
from ..scopes import WholeModel
from .profiled_gates import ListedFor
from .recipe import Recorder, Settings
from .remedy import ProfileNeeded


def learned(s: Settings, method: str, name: str, what: str, shape: Sequence[int | None] | None = None) -> Tensor:
    """The tensor ``name`` of the setting ``profile``.

    Args:
        what: what the tensor holds, in words, for the error.
        shape: wanted of it, None for any length; by default a row and a column for each step.

    Raises:
        ProfileNeeded: there is no profile, or it has no such tensor.
    """
    if s["profile"] is None:
        raise ProfileNeeded(f"The method {method!r} needs profile=..., with {what}.", method)
    steps = s["profile"].steps
    return s["profile"].tensor(name, (steps, steps) if shape is None else shape)


def line_or_reuse(order: int) -> Forecaster:
    """The polynomial of that order through the newest anchors; order 0 is reuse."""
    return Lagrange(order) if order else Reuse()


def best_listed(
    s: Settings,
    method: str,
    forecaster: Forecaster,
    gram: Tensor,
    costs: Tensor | None = None,
    skipped_cost: float | None = None,
) -> ListedFor:
    """A list of the ``computed_steps`` steps from which ``forecaster`` fills in the others best (``best_schedule``).

    In a composed method another forecaster (``s["forecaster"]``) fills them in. The search is for that one, where it
    can be searched for.

    Args:
        skipped_cost: of a skipped step, in computed ones, where the number of steps is to give a speed-up.
    """
    other = s.get("forecaster")
    forecaster = other if other is not None and can_be_searched_for(other) else forecaster
    computed = steps_of(s["computed_steps"], len(gram), skipped_cost)
    found = best_schedule(gram, forecaster, computed, costs)
    return ListedFor(frozenset(found), steps=len(gram), method=method, timesteps=s["profile"].timesteps)


def output_products(recorder: Recorder) -> Tensor:
    """[T, T] float64: inner products of what the model returns on the T steps of one uncached run."""
    outputs = recorder.record(WholeModel()).outputs.double()
    return outputs @ outputs.T


def learn_outputs(recorder: Recorder, s: Settings) -> dict[str, Tensor]:
    """``gram`` [T, T] float64: ``output_products`` in units of the outputs' mean square."""
    products = output_products(recorder)
    return {"gram": products / products.diagonal().mean()}
