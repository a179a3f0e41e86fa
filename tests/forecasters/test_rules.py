"""Weights without data beyond Lagrange's: solvers, averages, and a Chebyshev fit."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synccache.core.types import Context, Step
from synccache.forecasters import (
    POOL,
    Average,
    Chebyshev,
    Slopes,
    Solver,
)

C = Context(Step(0))


# -- solvers, averages -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "expected"),
    [  # forecasting.md: the published weights one anchor gap ahead
        ("reuse", [1, 0, 0]),
        ("rk2", [3 / 2, 0, -1 / 2]),
        ("ab2", [5 / 2, -2, 1 / 2]),
        ("taylor", [2, -1, 0]),
        ("bdf2", [4 / 3, -1 / 3, 0]),
        ("am", [55 / 24, -38 / 24, 7 / 24]),
    ],
)
@pytest.mark.parametrize("gap", [1.0, 5.0])
def test_the_pool_by_hand(rule, expected, gap):
    times = [2 * gap, gap, 0.0]
    assert POOL[rule].weights(times, 3 * gap, C).tolist() == [pytest.approx(expected, abs=1e-12)]


UNEVEN = st.lists(st.integers(1, 6), min_size=2, max_size=2).map(lambda g: [20.0, 20.0 - g[0], 20.0 - sum(g)])


@pytest.mark.parametrize("forecaster", [Solver(1.0), Solver(1.0, 0.5), Solver(1.0, -0.5), Slopes(0.9), Slopes(0.0)])
@given(times=UNEVEN, ahead=st.integers(1, 9), held=st.integers(2, 3))
@settings(max_examples=20, deadline=None)
def test_a_straight_line_is_continued_on_uneven_gaps(forecaster, times, ahead, held):
    times = times[:held]
    weights = forecaster.weights(times, 20.0 + ahead, C)[0]
    assert sum(float(w) * t for w, t in zip(weights, times, strict=True)) == pytest.approx(20 + ahead)
    assert float(weights.sum()) == pytest.approx(1)


def test_stretched_adams_bashforth_is_the_second_order_taylor_step():
    """f'' k^2 / 2 for t^2 at 4, 2, 0, three steps ahead, the slope taken between the newest anchors: 16 + 3 6 + 9."""
    weights = POOL["ab2"].weights([4.0, 2.0, 0.0], 7.0, C)[0]
    assert float(weights @ torch.tensor([16.0, 4.0, 0.0]).double()) == pytest.approx(16 + 3 * 6 + 9)


def test_averages_by_hand():
    times = [9.0, 6.0, 4.0, 3.0]
    assert Average(0.5, 3).weights(times, 12.0, C).tolist() == [[0.5, 0.25, 0.25, 0]]
    assert Average(0.9, 9).weights(times[:1], 12.0, C).tolist() == [[1]]
    assert Average(0.0).weights(times, 12.0, C).tolist() == [[1, 0, 0, 0]]
    state = 3.0
    for value in (4.0, 6.0, 9.0):  # the recursion that the weights write out
        state = 0.9 * state + 0.1 * value
    weights = Average(0.9, 4).weights(times, 12.0, C)[0]
    assert float(weights @ torch.tensor(times).double()) == pytest.approx(state)
    slope = 0.5 * (0.5 * 1.0 + 0.5 * 4.0) + 0.5 * 2.0  # slopes 1, 4, 2 of values 3, 4, 12, 18 at those times
    weights = Slopes(0.5, 4).weights(times, 12.0, C)[0]
    assert float(weights @ torch.tensor([18.0, 12.0, 4.0, 3.0]).double()) == pytest.approx(18 + 3 * slope)


# -- Chebyshev -------------------------------------------------------------------------------------------------------


def test_chebyshev_without_a_ridge_continues_its_own_polynomials():
    times, t = [30.0, 21.0, 15.0, 9.0, 4.0, 1.0], 37.0

    def curve(x):
        return 2 + x / 10 - (x / 10) ** 2 + (x / 20) ** 4

    weights = Chebyshev(4, 1e-9).weights(times, t, Context(Step(37, total=50)))[0]
    assert float(weights @ torch.tensor([curve(x) for x in times]).double()) == pytest.approx(curve(t), rel=1e-4)


def test_chebyshev_is_the_published_ridge_regression():
    """(Phi^T Phi + lambda I)^-1 Phi^T with T_n(tau) = cos(n arccos tau), tau = 2 t / 50 - 1."""
    times, t = [11.0, 8.0, 6.0, 4.0, 3.0, 2.0, 1.0, 0.0], 14.0

    def phi(x):
        return [math.cos(n * math.acos(2 * x / 50 - 1)) for n in range(5)]

    known, wanted = torch.tensor([phi(x) for x in times]).double(), torch.tensor(phi(t)).double()
    inverse = torch.linalg.inv(known.T @ known + 0.1 * torch.eye(5, dtype=torch.float64))
    weights = Chebyshev().weights(times, t, Context(Step(14, total=50)))
    torch.testing.assert_close(weights[0], wanted @ inverse @ known.T, rtol=1e-5, atol=1e-6)
    assert Chebyshev().weights(times[-1:], t, C).tolist() == [[1]]


def test_chebyshev_knows_how_long_the_run_is():
    """Weights depend on where in the run they stand; a run longer than anybody said ends where it has come to."""
    times = [float(t) for t in range(60, 44, -1)]

    def weights(total):
        return Chebyshev().weights(times, 70.0, Context(Step(70, total=total))).tolist()

    assert weights(None) == weights(50) == weights(71) != weights(80)


def test_the_published_ridge_shrinks_and_centring_takes_that_away():
    times, context = [4.0, 3.0, 2.0, 1.0, 0.0], Context(Step(5, total=50))
    assert float(Chebyshev().weights(times, 5.0, context).sum()) == pytest.approx(0.938, abs=1e-3)
    plain, centred = (Chebyshev(centred=c).weights(times, 5.0, context)[0] for c in (False, True))
    assert float(centred.sum()) == pytest.approx(1)
    assert plain[1:].tolist() == centred[1:].tolist()
