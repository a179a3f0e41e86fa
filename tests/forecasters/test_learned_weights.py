"""Weights from data, and what is learned from a recorded run: planted structure comes back."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synccache import InputError
from synccache.engine.types import Context, Step
from synccache.forecasters import (
    POOL,
    Average,
    Chebyshev,
    Dmd,
    Lagrange,
    Reuse,
    Rows,
    Slopes,
    Solver,
    learn_basis,
    learn_channels,
    learn_rows,
)
from synccache.forecasters.channels import k_means

C = Context(Step(0))
RULES = list(POOL)


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=random(seed), dtype=torch.float64)


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


# -- DMD -------------------------------------------------------------------------------------------------------------


def snapshots(roots, times, size=50, seed=0):
    """Re sum_m c_m root_m^t, newest first, with their inner products."""
    parts = torch.randn(len(roots), size, 2, generator=random(seed), dtype=torch.float64)
    modes = torch.view_as_complex(parts)
    values = torch.stack([sum(r**t * m for r, m in zip(roots, modes, strict=True)).real for t in times])
    return values, values @ values.T


@pytest.mark.parametrize("gap", [1, 3])
@pytest.mark.parametrize("ahead", [1, 2, 5])
@pytest.mark.parametrize(
    "roots", [[0.9], [0.95, 0.7], [1.02, 0.9, 0.6], [0.98 * complex(math.cos(0.3), math.sin(0.3)), 0.8], [1.0, 0.85]]
)
def test_dmd_recovers_planted_modes(roots, ahead, gap):
    times = [float(gap * i) for i in range(5, -1, -1)]
    values, gram = snapshots([complex(r) for r in roots], times)
    wanted, _ = snapshots([complex(r) for r in roots], [times[0] + ahead])
    weights = Dmd().weights(times, times[0] + ahead, Context(Step(0), gram=gram))
    assert weights.dtype is torch.float64 and weights.shape == (1, 6) and float(weights[0, -1]) == 0
    torch.testing.assert_close(weights @ values, wanted, rtol=0, atol=1e-6 * float(wanted.abs().max()))


def test_dmd_of_another_size_is_the_same():
    values, gram = snapshots([0.9 + 0j, 0.7 + 0j], [5.0, 4.0, 3.0, 2.0])
    times = [5.0, 4.0, 3.0, 2.0]
    small, large = (Dmd().weights(times, 7.0, Context(Step(0), gram=scale * gram)) for scale in (1e-12, 1e12))
    torch.testing.assert_close(small @ values, large @ values)


def test_dmd_uses_the_longest_even_tail_and_else_a_line():
    times = [17.0, 14.0, 11.0, 8.0, 2.0, 1.0]
    values, gram = snapshots([0.9 + 0j, 0.8 + 0j], times)
    wanted, _ = snapshots([0.9 + 0j, 0.8 + 0j], [19.0])
    weights = Dmd().weights(times, 19.0, Context(Step(19), gram=gram))
    assert weights[0, 3:].tolist() == [0, 0, 0]
    torch.testing.assert_close(weights @ values, wanted, rtol=0, atol=1e-6)
    short = [14.0, 11.0, 8.0, 2.0]
    line = Dmd().weights(short, 16.0, Context(Step(16), gram=gram[1:5, 1:5]))
    torch.testing.assert_close(line, Lagrange(1).weights(short, 16.0, C))


@pytest.mark.parametrize("gram", [torch.zeros(4, 4), torch.full((4, 4), math.nan), torch.full((4, 4), math.inf)])
def test_dmd_reuses_where_there_is_nothing_to_fit(gram):
    weights = Dmd().weights([5.0, 4.0, 3.0, 2.0], 7.0, Context(Step(7), gram=gram.double()))
    assert weights.tolist() == [[1, 0, 0, 0]]


# -- HyCa ------------------------------------------------------------------------------------------------------------


def trajectories(rule, channels, steps=32, tokens=256, seed=0):
    """[T, n, channels] of which ``rule`` predicts all that can be known; each step brings something new."""
    rows, fresh = [], noise(steps, tokens, channels, seed=seed)
    weights = POOL[rule].weights([2.0, 1.0, 0.0], 3.0, C)[0].tolist()
    for t in range(steps):
        rows.append(fresh[t] + sum(w * rows[-1 - j] for j, w in enumerate(weights) if t > j))
    return torch.stack(rows)


@pytest.mark.parametrize("pair", [("rk2", "taylor"), ("bdf2", "ab2"), ("reuse", "rk2"), ("taylor", "am")])
def test_each_family_of_channels_finds_its_solver(pair):
    """Two kinds of channels, interleaved, each the outcome of one solver of the pool."""
    of = torch.tensor([0, 1, 1, 0, 1] * 4)
    features = torch.zeros(32, 256, 20, dtype=torch.float64)
    for index, rule in enumerate(pair):
        features[:, :, of == index] = trajectories(rule, int((of == index).sum()), seed=index)
    found = learn_channels(features)
    assert found.dtype is torch.int64
    assert [RULES[i] for i in found.tolist()] == [pair[i] for i in of.tolist()]
    assert torch.equal(found, learn_channels(features))


def test_jitter_is_reused_and_a_line_is_continued():
    """HyCa's point: what oscillates wants another rule than what is smooth; in float32 as recorded."""
    t = torch.arange(30.0)[:, None, None]
    smooth = t * torch.rand(1, 8, 10, generator=random()) + 3
    jitter = torch.randn(30, 8, 10, generator=random(1))
    found = learn_channels(torch.cat([smooth, jitter], dim=2))
    assert set(found[:10].tolist()) <= {RULES.index(r) for r in ("rk2", "ab2", "taylor", "am")}
    assert found[10:].tolist() == [RULES.index("reuse")] * 10 or found[10:].tolist() == [RULES.index("bdf2")] * 10


def test_k_means_finds_planted_clusters_without_chance():
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    of = torch.randint(0, 3, (60,), generator=random())
    points = centres[of] + torch.randn(60, 2, generator=random(1))
    found = k_means(points, 3)
    assert len({(int(a), int(b)) for a, b in zip(of, found, strict=True)}) == 3
    assert torch.equal(found, k_means(points, 3))
    assert k_means(points[:2], 5).tolist() in ([0, 1], [1, 0])
    assert k_means(torch.ones(4, 2), 2).tolist() == [0, 0, 0, 0]


# -- SVD-Cache -------------------------------------------------------------------------------------------------------


def test_the_basis_holds_the_energy_asked_for():
    """Planted: three directions with shares 0.6, 0.3 and 0.1 of the energy."""
    directions = torch.linalg.qr(noise(8, 8)).Q[:, :3]
    amounts = torch.linalg.qr(noise(100, 3, seed=1)).Q * torch.tensor([0.6, 0.3, 0.1]).double().sqrt()
    features = (amounts @ directions.T).reshape(4, 25, 8).float()
    for energy, k in ((0.5, 1), (0.85, 2), (0.89, 2), (0.95, 3), (1.0, 8)):
        basis = learn_basis(features, energy)
        assert basis.shape == (8, k) and basis.dtype is torch.float32
        torch.testing.assert_close(basis.T @ basis, torch.eye(k))
    two = learn_basis(features, 0.85)
    torch.testing.assert_close((two.T @ directions[:, :2].float()).abs(), torch.eye(2), rtol=0, atol=1e-4)


# -- L2P -------------------------------------------------------------------------------------------------------------


def planted(steps=12, size=40, seed=0):
    """Rows and the features that obey them, each step with something new that no earlier step holds."""
    rows = noise(steps, steps, seed=seed).tril(-1) / steps
    rows += torch.diag_embed(torch.ones(steps - 1, dtype=torch.float64), -1)
    fresh = torch.linalg.qr(noise(size, steps, seed=seed + 1)).Q.T
    features = []
    for t in range(steps):
        features.append(fresh[t] + sum((rows[t, s] * features[s] for s in range(t)), torch.zeros(size).double()))
    return rows, torch.stack(features)


def test_least_squares_finds_the_planted_rows():
    rows, features = planted()
    found = learn_rows(features @ features.T, ridge=0)
    torch.testing.assert_close(found, rows, rtol=0, atol=1e-8)
    assert float(found.triu().abs().max()) == 0


def test_a_linear_recurrence_is_continued_exactly():
    """F_t = 1.7 F_{t-1} - 0.72 F_{t-2}: two directions, so many rows fit; any of them predicts, rolled out too."""
    features = [noise(30), noise(30, seed=1)]
    while len(features) < 12:
        features.append(1.7 * features[-1] - 0.72 * features[-2])
    features = torch.stack(features)
    forecaster = Rows(learn_rows(features @ features.T, ridge=0))
    times = [5.0, 3.0, 2.0, 1.0, 0.0]
    for t in range(6, 12):
        weights = forecaster.weights(times, float(t), C)
        torch.testing.assert_close(weights[0] @ features[[5, 3, 2, 1, 0]], features[t], rtol=0, atol=1e-6)


def test_a_ridge_pulls_towards_reuse():
    _, features = planted()
    strong = learn_rows(features @ features.T, ridge=1e9)
    torch.testing.assert_close(strong, torch.diag_embed(torch.ones(11).double(), -1), rtol=0, atol=1e-6)


@given(st.sets(st.integers(1, 10)))
@settings(max_examples=40, deadline=None)
def test_folded_weights_are_the_rollout(computed):
    """Predicting with tensors, step by step, predictions among the inputs."""
    rows, features = planted()
    computed, history = {0, *computed}, []
    for t in range(12):
        if t in computed:
            history.append(features[t])
            continue
        history.append(sum((rows[t, s] * history[s] for s in range(t)), torch.zeros(40).double()))
        times = sorted((float(s) for s in computed if s < t), reverse=True)
        weights = Rows(rows).weights(times, float(t), C)
        assert weights.shape == (1, len(times)) and weights.dtype is torch.float64
        torch.testing.assert_close(weights[0] @ features[[int(s) for s in times]], history[-1])


def test_rows_alone():
    rows = torch.tensor([[0, 0, 0, 0], [2, 0, 0, 0], [1, 3, 0, 0], [1, 1, 1, 0]]).float()
    forecaster = Rows(rows)
    assert forecaster.anchors == 4
    assert forecaster.weights([0.0], 1.0, C).tolist() == [[2]]
    assert forecaster.weights([0.0], 2.0, C).tolist() == [[7]]  # 1 + 3 * 2
    assert forecaster.weights([2.0, 0.0], 3.0, C).tolist() == [[1, 3]]
    assert forecaster.weights([1.0], 2.0, C).tolist() == [[4]]  # step 0 is gone and counts as step 1
    assert forecaster == Rows(rows.clone()) != Rows(rows + 1)
    with pytest.raises(InputError, match=r"runs of 4 steps, and step 4 was asked for\. Use that many, or profile"):
        forecaster.weights([2.0], 4.0, C)
    assert Reuse() != forecaster
