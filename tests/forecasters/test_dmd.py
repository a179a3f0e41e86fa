"""Dynamic mode decomposition through inner products: planted modes come back."""

import math

import pytest
import torch

import synccache
from synccache import InputError
from synccache.core.types import Context, Step
from synccache.forecasters import Dmd, Lagrange
from synccache.testing import Video

C = Context(Step(0))


def snapshots(roots, times, size=50, seed=0):
    """Re sum_m c_m root_m^t, newest first, with their inner products."""
    parts = torch.randn(len(roots), size, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
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


def test_fewer_anchors_than_a_fit_takes_are_refused():
    with pytest.raises(InputError, match="at least 4 anchors, and anchors is 3"):
        Dmd(3)
    with pytest.raises(InputError, match="at least 4 anchors"):
        synccache.apply(Video(), "dmd", anchors=2)
