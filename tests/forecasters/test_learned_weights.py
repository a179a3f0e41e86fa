"""What is learned from a recorded run: planted structure comes back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synccache import InputError
from synccache.core.types import Context, Step
from synccache.forecasters import (
    POOL,
    Reuse,
    Rows,
    learn_basis,
    learn_channels,
    learn_rows,
)
from synccache.forecasters.channels import k_means

C = Context(Step(0))
RULES = list(POOL)


def of(total):
    """On any step of a run of that length."""
    return Context(Step(0, total=total))


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=random(seed), dtype=torch.float64)


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
        weights = forecaster.weights(times, float(t), of(12))
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
        weights = Rows(rows).weights(times, float(t), of(12))
        assert weights.shape == (1, len(times)) and weights.dtype is torch.float64
        torch.testing.assert_close(weights[0] @ features[[int(s) for s in times]], history[-1])


def test_rows_alone():
    rows = torch.tensor([[0, 0, 0, 0], [2, 0, 0, 0], [1, 3, 0, 0], [1, 1, 1, 0]]).float()
    forecaster = Rows(rows)
    assert forecaster.anchors == 4
    assert forecaster.weights([0.0], 1.0, of(4)).tolist() == [[2]]
    assert forecaster.weights([0.0], 2.0, of(4)).tolist() == [[7]]  # 1 + 3 * 2
    assert forecaster.weights([2.0, 0.0], 3.0, of(4)).tolist() == [[1, 3]]
    assert forecaster.weights([1.0], 2.0, of(4)).tolist() == [[4]]  # step 0 is gone and counts as step 1
    assert forecaster == Rows(rows.clone()) != Rows(rows + 1)
    for total, says in ((None, "nobody tells how long"), (5, "step 2 of 5 was asked for"), (3, "step 2 of 3")):
        with pytest.raises(InputError, match=rf"runs of 4 steps, and {says}.*Use that many .*, or profile a run"):
            forecaster.weights([1.0], 2.0, of(total))
    assert Reuse() != forecaster
