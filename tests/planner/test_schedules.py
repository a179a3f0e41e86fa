"""The searched schedule is the best of all of them."""

from itertools import combinations

import pytest
import torch

from synccache.core.types import Context, Step
from synccache.errors import InputError
from synccache.forecasters import Lagrange, Reuse
from synccache.gates.schedules import best_schedule, step_sizes


def spent(features, forecaster, schedule, costs):
    """What filling in costs, by doing it."""
    total = 0.0
    for step in range(len(features)):
        known = sorted((s for s in schedule if s <= step), reverse=True)[: forecaster.anchors]
        weights = forecaster.weights([float(s) for s in known], float(step), Context(Step(step)))[0]
        predicted = sum(w * features[s] for w, s in zip(weights, known, strict=True))
        total += float(costs[step] * (predicted - features[step]).square().sum())
    return total


@pytest.mark.parametrize("forecaster", [Reuse(), Lagrange(1), Lagrange(1, 0.5, reach=1.5)])
@pytest.mark.parametrize("computed", [1, 2, 3, 5, 8])
def test_no_schedule_of_as_many_steps_is_better(forecaster, computed):
    generator = torch.Generator().manual_seed(computed)
    features = torch.randn(8, 5, generator=generator, dtype=torch.float64).cumsum(0)
    costs = torch.rand(8, generator=generator, dtype=torch.float64)
    found = best_schedule(features @ features.T, forecaster, computed, costs)
    every = [(0, *rest) for rest in combinations(range(1, 8), computed - 1)]
    best = min(every, key=lambda schedule: spent(features, forecaster, schedule, costs))
    assert found == best


def test_a_line_needs_two_anchors_a_piece():
    bends = torch.tensor([0.0, 1, 2, 3, 4, 3, 2, 1, 0, -1], dtype=torch.float64)[:, None]
    found = best_schedule(bends @ bends.T + 1, Lagrange(1), 4)
    features = torch.cat([bends, torch.ones_like(bends)], 1)
    assert len(found) == 4 and spent(features, Lagrange(1), found, torch.ones(10)) == pytest.approx(0, abs=1e-20)


def test_step_sizes_are_parts_of_the_way():
    assert step_sizes(torch.tensor([1000.0, 900.0, 500.0])).tolist() == [0.1, 0.4, 0.5]


def test_what_cannot_be_searched_is_refused():
    with pytest.raises(InputError, match="reuse and for linear forecasts only"):
        best_schedule(torch.eye(5), Lagrange(2), 3)
    with pytest.raises(InputError, match="6 computed steps of 5"):
        best_schedule(torch.eye(5), Reuse(), 6)
