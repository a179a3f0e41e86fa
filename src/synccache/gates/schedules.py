"""Which steps to compute: a shortest path over steps, for one forecaster and features that were recorded."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ..core.types import Context, Forecaster, Step
from ..errors import InputError

MOST_STEPS = 200  # the search holds the cube of them


def best_schedule(gram: Tensor, forecaster: Forecaster, computed: int, costs: Tensor | None = None) -> tuple[int, ...]:
    """The ``computed`` steps from which ``forecaster`` fills in the others with the least squared error.

    The error of a filled-in step depends on the two computed ones before it, so the search is a shortest path over
    pairs of them: exact for what it is given, the features of an uncached run. A cached run's features are a little
    different ones, since errors change what later steps are called with.

    Args:
        gram: [T, T] inner products of the T steps' features.
        forecaster: of at most two anchors, without a split, whose weights depend on the times alone.
        computed: from 1 to T; step 0 is one of them.
        costs: [T] what a squared error of 1 costs on each step; 1 by default.

    Raises:
        InputError: another kind of forecaster, too many steps, or more computed ones than there are.
    """
    total = len(gram)
    if not can_be_searched_for(forecaster):
        raise InputError("A schedule is searched for reuse and for linear forecasts only. Lower the order to 1 or 0.")
    if not 1 <= computed <= total <= MOST_STEPS:
        raise InputError(
            f"{computed} computed steps of {total} can't be searched for: give at least 1, at most as many as there "
            f"are, of at most {MOST_STEPS}."
        )
    errors = _errors(gram.double(), forecaster, torch.ones(total) if costs is None else costs)
    # best[h, i]: least cost of a path whose last two nodes are h and i; h = i where i is the first
    best = torch.full((total, total), float("inf"), dtype=torch.float64)
    best[0, 0] = 0.0
    came_from: list[Tensor] = []
    for _ in range(computed - 1):
        least, origin = (best[:, :, None] + errors[:, :, :total]).min(0)
        best = least
        came_from.append(origin)
    last = int((best + errors[:, :, total]).argmin())
    path = [last % total, last // total]
    for origin in reversed(came_from):
        path.append(int(origin[path[-1], path[-2]]))
    return tuple(sorted(set(path)))


def can_be_searched_for(forecaster: Forecaster) -> bool:
    """Whether ``best_schedule`` takes it: reuse, or a line through the last two anchors."""
    return forecaster.anchors <= 2 and forecaster.split is None and not forecaster.gram


def _errors(gram: Tensor, forecaster: Forecaster, costs: Tensor) -> Tensor:
    """[h, i, j]: cost of the steps between i and j, i computed before them and h before i; infinite if out of order."""
    total = len(gram)
    errors = torch.full((total, total, total + 1), float("inf"), dtype=torch.float64)
    for i in range(total):
        for h in range(i) if i else (0,):
            anchors = [i, h] if h != i else [i]
            inner = gram[anchors][:, anchors]
            spent = 0.0
            errors[h, i, i + 1] = 0.0
            for j in range(i + 1, total):
                weights = forecaster.weights([float(a) for a in anchors], float(j), Context(Step(j)))[0]
                squared = weights @ inner @ weights - 2 * weights @ gram[anchors, j] + gram[j, j]
                spent += float(costs[j]) * max(0.0, float(squared))
                errors[h, i, j + 1] = spent
    return errors


def step_sizes(timesteps: Tensor) -> Tensor:
    """[T] how far the sampler goes on each step, as a part of the whole way; the last step goes to zero."""
    ends = [*timesteps.tolist(), 0.0]
    sizes = torch.tensor([abs(a - b) for a, b in pairwise(ends)], dtype=torch.float64)
    return sizes / sizes.sum()
