"""Weights: exact on polynomials, and the published contraction."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synccache.core.types import Context, Step
from synccache.forecasters import ByPerson, Foca, Hermite, Lagrange, Reuse, Taylor

C = Context(Step(0))
A2 = 0.5**2 / 2 - 0.5**2 / 7**2  # (c s)^2 / 2 - sigma^2 / N^2 at sigma = 1/2, s = 1, N = 7


@given(
    st.integers(0, 4), st.lists(st.integers(1, 5), min_size=4, max_size=4), st.integers(1, 6),
    st.lists(st.integers(-3, 3), min_size=5, max_size=5),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_lagrange_continues_a_polynomial_of_its_degree_on_uneven_gaps(order, gaps, ahead, coefficients):
    times = [40.0]
    for gap in gaps:
        times.append(times[-1] - gap)
    times = times[: order + 1]

    def polynomial(t):
        return sum(c * ((t - 30) / 10) ** k for k, c in enumerate(coefficients[: order + 1]))

    weights = Lagrange(order).weights(times, 40.0 + ahead, C)
    assert weights.dtype is torch.float64 and weights.shape == (1, order + 1)
    forecast = sum(float(w) * polynomial(t) for w, t in zip(weights[0], times, strict=True))
    size = 1 + sum(abs(float(w)) * abs(polynomial(t)) for w, t in zip(weights[0], times, strict=True))
    assert abs(forecast - polynomial(40.0 + ahead)) < 1e-9 * size


@pytest.mark.parametrize(
    ("forecaster", "times", "t", "expected"),
    [
        (Reuse(), [5.0], 9.0, [1]),
        (Reuse(), [5.0, 2.0], 9.0, [1, 0]),
        (Lagrange(1), [5.0, 2.0], 8.0, [2, -1]),  # one anchor gap ahead
        (Lagrange(1), [5.0, 2.0], 6.0, [4 / 3, -1 / 3]),
        (Lagrange(2), [4.0, 2.0, 0.0], 6.0, [3, -3, 1]),  # forecasting.md: true quadratic at s = 1
        (Lagrange(1, contraction=0.5), [4.0, 2.0], 6.0, [1.5, -0.5]),  # HiCache order 1 at sigma = 1/2
        (Lagrange(1, contraction=0.0), [4.0, 2.0], 9.0, [1, 0]),
        (Lagrange(2, contraction=0.0), [4.0, 2.0, 1.0], 9.0, [1, 0, 0]),
        (Lagrange(1, max_gap=2), [4.0, 2.0], 9.0, [2, -1]),  # stands still two steps ahead
        (Lagrange(1, contraction=0.5, max_gap=2), [4.0, 2.0], 9.0, [1.5, -0.5]),
        (Lagrange(2), [4.0], 9.0, [1]),  # too few anchors: lower order
        (Lagrange(2), [4.0, 2.0], 6.0, [2, -1]),
        (Lagrange(1), [4.0, 2.0, 0.0], 6.0, [2, -1, 0]),
        (Taylor(2), [4.0, 2.0, 0.0], 6.0, [5 / 2, -2, 1 / 2]),  # forecasting.md: TaylorSeer order 2 at s = 1
        (Taylor(2), [4.0], 9.0, [1]),
        (Hermite(1, 0.5), [4.0, 2.0], 6.0, [3 / 2, -1 / 2]),  # forecasting.md: HiCache order 1
        (Hermite(2, 0.5), [21.0, 14.0, 7.0], 28.0, [1 + 0.5 + A2, -0.5 - 2 * A2, A2]),  # order 2 at N = 7
        (Foca(), [4.0, 2.0, 0.0], 6.0, [7 / 3, -5 / 3, 1 / 3]),  # as L2P quotes it
        (Foca(heun=True), [4.0, 2.0, 0.0], 6.0, [5 / 2, -2, 1 / 2]),
        (Foca(), [4.0, 2.0], 6.0, [2, -1]),
        (Foca(), [4.0], 6.0, [1]),
    ],
)
def test_weights_by_hand(forecaster, times, t, expected):
    assert forecaster.weights(times, t, C).tolist() == [pytest.approx(expected)]


@given(st.integers(0, 3), st.floats(0, 2), st.lists(st.integers(1, 6), min_size=3, max_size=3), st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_weights_sum_to_one(order, contraction, gaps, ahead):
    times = [20.0, 20.0 - gaps[0], 20.0 - sum(gaps[:2]), 20.0 - sum(gaps)][: order + 1]
    assert float(Lagrange(order, contraction).weights(times, 20.0 + ahead, C).sum()) == pytest.approx(1)


UNEVEN = st.lists(st.integers(1, 6), min_size=2, max_size=2).map(lambda g: [20.0, 20.0 - g[0], 20.0 - sum(g)])


@pytest.mark.parametrize("forecaster", [Taylor(1), Taylor(2), Hermite(1, 0.5**0.5), Foca(), Foca(heun=True)])
@given(times=UNEVEN, ahead=st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_a_straight_line_is_continued_on_uneven_gaps(forecaster, times, ahead):
    """Also the guard against a sign: a rule that took k backwards would run the other way."""
    times = times[: forecaster.anchors]
    weights = forecaster.weights(times, 20.0 + ahead, C)[0]
    assert sum(float(w) * t for w, t in zip(weights, times, strict=True)) == pytest.approx(20 + ahead)
    assert float(weights.sum()) == pytest.approx(1)


@given(times=UNEVEN, ahead=st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_hermite_is_taylor_contracted_and_an_offset(times, ahead):
    """H_2(x) = 4 x^2 - 2: order 2 takes the curvature at sigma^4 4 k^2, less 2 sigma^2."""
    sigma, value = 0.7, [t**2 for t in times]
    forecast = float(Hermite(2, sigma).weights(times, 20.0 + ahead, C)[0] @ torch.tensor(value, dtype=torch.float64))
    slope = times[0] + times[1]
    assert forecast == pytest.approx(400 + slope * 2 * sigma**2 * ahead + 4 * sigma**4 * ahead**2 - 2 * sigma**2)


def test_anchors_wanted():
    assert (Reuse().anchors, Lagrange(1).anchors, Lagrange(3).anchors) == (1, 2, 4)
    assert ByPerson(Lagrange(2), Reuse()).anchors == 3


def test_by_person_weighs_each_group_by_its_own_rule():
    forecaster = ByPerson(Lagrange(1), Reuse())
    assert forecaster.weights([4.0, 2.0], 6.0, C).tolist() == [[2, -1], [1, 0]]
    mask = torch.tensor([[1.0, 0.25]])
    groups = forecaster.split.shares(torch.zeros(1, 5, 3), Context(Step(0), mask=mask, offset=1))
    assert groups[:, 0, :, 0].tolist() == [[0, 1, 0.25, 0, 0], [1, 0, 0.75, 1, 1]]
    assert forecaster.split.shares(torch.zeros(1, 5, 3), C) is None
