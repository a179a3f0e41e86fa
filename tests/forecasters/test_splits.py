"""Forecasters of several groups: each split against its projectors, written out as dense matrices."""

import math

import pytest
import scipy.fft
import torch

import synccache
from synccache import Method
from synccache.core.types import Context, Step
from synccache.forecasters import (
    ByChannel,
    ByFrequency,
    BySubspace,
    ChannelMask,
    Dmd,
    Hermite,
    Lagrange,
    LowPass,
    Reuse,
    Subspace,
    Taylor,
    learn_basis,
)
from synccache.forecasters.grouped import Grouped
from synccache.forecasters.rule import Rule
from synccache.gates import Listed
from synccache.scopes import WholeStack
from synccache.testing import Video, WanModel_S2V, s2v_inputs

C = Context(Step(6), video=True)
TIMES = [4.0, 2.0, 0.0]
GRID = (2, 4, 6)  # rectangular


def anchors(tokens=48, width=5, batch=2, dtype=torch.float64):
    random = torch.Generator().manual_seed(0)
    return [torch.randn(batch, tokens, width, generator=random, dtype=torch.float64).to(dtype) for _ in TIMES]


def dense(split, context, tokens, width):
    """P as a matrix over tokens and channels, from what the split makes of each unit vector."""
    units = torch.eye(tokens * width, dtype=torch.float64).reshape(-1, tokens, width)
    weights = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    return split.add(units, [units], weights, context, onto=False).reshape(tokens * width, -1).T


def low_band(picture, keep):
    """FreqCa's low band of [h, w] by scipy: the coefficients within ``keep`` of the highest frequency."""
    h, w = picture.shape
    spectrum = scipy.fft.dctn(picture, norm="ortho")
    for u in range(h):
        for v in range(w):
            if math.hypot(u / h, v / w) > keep * math.hypot((h - 1) / h, (w - 1) / w):
                spectrum[u, v] = 0
    return torch.from_numpy(scipy.fft.idctn(spectrum, norm="ortho"))


@pytest.mark.parametrize("keep", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("size", [(4, 6), (16, 16), (5, 1)])
def test_the_low_band_is_scipys_on_any_grid(size, keep):
    pictures = torch.randn(3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows = LowPass(keep).rows(*size)
    torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows), dtype=torch.float64))
    for picture in pictures:
        expected = low_band(picture.numpy(), keep)
        torch.testing.assert_close((rows.T @ (rows @ picture.flatten())).reshape(size), expected)


def test_on_a_square_the_radius_is_the_papers():
    n, keep = 30, 0.1
    u = torch.arange(n, dtype=torch.float64)
    inside = torch.hypot(u[:, None], u[None]) <= keep * math.hypot(n - 1, n - 1) + 1e-9
    assert len(LowPass(keep).rows(n, n)) == int(inside.sum()) < 0.02 * n * n


@pytest.mark.parametrize(
    ("split", "context", "tokens", "width"),
    [
        (LowPass(0.4), Context(Step(6), grid=(2, 2, 3), offset=1, video=True), 15, 2),
        (LowPass(0.4), C, 15, 2),
        (LowPass(0.4), C, 8, 2),
        (Subspace(learn_basis(torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), 0.7)), C, 3, 4),
    ],
)
def test_each_split_is_a_projection(split, context, tokens, width):
    p = dense(split, context, tokens, width)
    torch.testing.assert_close(p @ p, p, rtol=0, atol=1e-6)
    torch.testing.assert_close(p.T, p, rtol=0, atol=1e-6)
    assert 0 < float(p.trace()) < tokens * width - 0.5


@pytest.mark.parametrize("onto", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("split", "context"),
    [
        (LowPass(0.3), Context(Step(6), grid=(2, 3, 4), offset=3, video=True)),
        (LowPass(0.3), C),
        (Subspace(learn_basis(torch.randn(40, 5, generator=torch.Generator().manual_seed(2)), 0.6)), C),
    ],
)
def test_the_sum_is_that_of_the_two_groups(split, context, dtype, onto):
    """value + sum_g P_g sum_j w_gj F_j, in any precision and with tokens around the video."""
    held, weights = anchors(30, dtype=dtype), torch.tensor([[1.5, -0.75, 0.25], [1.0, 0.0, 0.5]], dtype=torch.float64)
    value, before = anchors(30, dtype=dtype)[1] * 0.5, [f.clone() for f in held]
    p = dense(split, context, 30, 5)
    rest, kept = (sum(float(w) * f.double() for w, f in zip(row, held, strict=True)).flatten(1) for row in weights)
    expected = (rest + (kept - rest) @ p.T).reshape(value.shape) + (value.double() if onto else 0)
    got = split.add(value, held, weights, context, onto)
    assert got.dtype is dtype and all(torch.equal(a, b) for a, b in zip(held, before, strict=True))
    close = {torch.bfloat16: 2e-2, torch.float32: 1e-5, torch.float64: 1e-6}[dtype]
    torch.testing.assert_close(got.double(), expected, rtol=close, atol=close)


def test_tokens_that_are_no_video_go_with_the_high_band():
    held, context = anchors(10), Context(Step(6), grid=(1, 2, 3), offset=2, video=True)
    weights = torch.tensor([[2.0, -1.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    got = LowPass(1.0).add(held[0], held, weights, context, onto=False)
    around = [0, 1, 8, 9]
    torch.testing.assert_close(got[:, around], (2 * held[0] - held[1])[:, around])
    torch.testing.assert_close(got[:, 2:8], held[0][:, 2:8])  # everything is low


def test_without_a_grid_the_split_runs_along_the_tokens():
    """16 tokens: a quarter of the highest frequency keeps waves 0, 1 and 2."""
    x = torch.arange(16, dtype=torch.float64)
    waves = {k: torch.cos(2 * math.pi * k * x / 16)[None, :, None] for k in (0, 2, 3)}
    weights = torch.tensor([[10.0], [1.0]], dtype=torch.float64)
    for k, wave in waves.items():
        got = LowPass(0.25).add(wave, [wave], weights, C, onto=False)
        torch.testing.assert_close(got, wave * (1 if k <= 2 else 10))


@pytest.mark.parametrize("context", [C, Context(Step(6), grid=GRID, video=True)])
def test_an_empty_low_band_is_hermite(context):
    held, value = anchors(), anchors()[2]
    forecaster, plain = ByFrequency(Reuse(), Hermite(2, 0.71), LowPass(0.0)), Hermite(2, 0.71)
    weights = forecaster.weights(TIMES, 6.0, context)
    assert weights.shape == (2, 3) and weights[1].tolist() == [1, 0, 0]
    got = forecaster.split.add(value, held, weights, context, onto=True)
    want = value + sum(float(w) * f for w, f in zip(plain.weights(TIMES, 6.0, C)[0], held, strict=True))
    torch.testing.assert_close(got, want)


def test_where_both_groups_agree_nothing_is_projected():
    held, weights = anchors(), torch.tensor([[1.5, -0.5, 0.0]] * 2, dtype=torch.float64)

    class Refusing(LowPass):
        def add_kept(self, result, change, context):
            raise AssertionError

    got = Refusing(0.3).add(held[0], held, weights, C, onto=False)
    torch.testing.assert_close(got, 1.5 * held[0] - 0.5 * held[1])


def test_a_full_rank_basis_is_its_inner_forecaster():
    held = anchors()
    basis = learn_basis(held[0], energy=1.0)
    assert basis.shape == (5, 5)
    forecaster = BySubspace(Taylor(2), Reuse(), Subspace(basis))
    weights = forecaster.weights(TIMES, 6.0, C)
    got = forecaster.split.add(held[0], held, weights, C, onto=False)
    want = sum(float(w) * f for w, f in zip(Taylor(2).weights(TIMES, 6.0, C)[0], held, strict=True))
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_the_principal_part_is_forecast_and_the_rest_reused():
    basis = torch.tensor([[1.0, 1.0, 0.0, 0.0]]).T / 2**0.5
    inside, outside = torch.tensor([3.0, 3.0, 0.0, 0.0]), torch.tensor([1.0, -1.0, 5.0, 7.0])
    held = [(t * (inside + outside)).expand(1, 6, 4) for t in TIMES]
    forecaster = BySubspace(Lagrange(1), Reuse(), Subspace(basis))
    got = forecaster.split.add(held[0], held, forecaster.weights(TIMES, 6.0, C), C, onto=False)
    torch.testing.assert_close(got, (6 * inside + 4 * outside).expand(1, 6, 4))


def test_each_channel_goes_by_its_own_rule():
    held = [torch.full((2, 3, 4), t) for t in TIMES]
    forecaster = ByChannel((Reuse(), Lagrange(1), Hermite(1, 0.5)), torch.tensor([1, 0, 2, 1]))
    weights = forecaster.weights(TIMES, 6.0, C)
    got = forecaster.split.add(held[0], held, weights, C, onto=False)
    torch.testing.assert_close(got, torch.tensor([6.0, 4, 5, 6]).expand(2, 3, 4))
    assert forecaster.anchors == 2
    assert ByChannel((Reuse(), Lagrange(3)), torch.zeros(4, dtype=torch.int64)).anchors == 1  # nobody takes the other


def test_a_value_of_another_form_goes_with_one_group():
    weights = torch.tensor([[2.0], [1.0]], dtype=torch.float64)
    flat = torch.randn(4, 7)
    mask = ChannelMask(torch.tensor([1, 1, 0]), 2)
    for split, factor in ((LowPass(0.5), 2), (Subspace(torch.eye(3)[:, :2]), 2), (mask, 1)):
        torch.testing.assert_close(split.add(flat, [flat], weights, C, onto=False), factor * flat)


def test_learned_forecasters_are_equal_by_value():
    basis, of = torch.eye(4)[:, :2], torch.tensor([0, 1, 0, 1])
    one, other = (BySubspace(Reuse(), Taylor(1), Subspace(basis.clone())) for _ in range(2))
    assert one == other and hash(one) == hash(other)
    assert one != BySubspace(Reuse(), Taylor(1), Subspace(-basis))
    assert ByChannel((Reuse(), Taylor(1)), of) == ByChannel((Reuse(), Taylor(1)), of.clone())
    assert ByChannel((Reuse(), Taylor(1)), of) != ByChannel((Reuse(), Taylor(1)), 1 - of)
    assert Subspace(basis) != of and LowPass(0.1) == LowPass(0.1) != LowPass(0.2)


def test_a_rule_inside_a_split_gets_the_gram_of_its_own_anchors():
    class Largest(Rule):
        """All weight on the largest of two anchors, by their squares alone."""

        anchors, gram = 2, True

        def weights(self, times, t, context):
            squares = context.gram.diagonal()
            return (squares == squares.max()).double()[None]

    class Both(Grouped):
        rules = (Reuse(), Largest())

    assert Both().gram and Both().anchors == 2 and not ByFrequency(Reuse(), Taylor(1)).gram
    context = Context(Step(6), gram=torch.diag(torch.tensor([1.0, 2.0, 9.0])).double())
    assert Both().weights(TIMES, 6.0, context).tolist() == [[1, 0, 0], [0, 1, 0]]


# -- through the engine --------------------------------------------------------------------------------------------


def outcome(model, forecaster, **given):
    """The video of a step that is filled in, four steps computed before."""
    inputs = s2v_inputs()
    gate, scope = Listed(frozenset(range(4))), WholeStack()
    with torch.no_grad(), synccache.cached(model, Method(gate, scope, forecaster), steps=10, **given) as handle:
        for t in (900.0, 800.0, 700.0, 600.0, 500.0):
            video = model(inputs.x, torch.tensor([t]), inputs.context, None, inputs.audio_input, inputs.ref_latents)[0]
        assert handle.trace.decisions()[-1] == "skipped"
    return video


def test_the_engine_tells_where_the_video_lies():
    """All low is reuse, none low is the other forecaster, something in between neither; with tokens behind the video,
    which go with the high band, and attention to them left out."""
    model = WanModel_S2V().eval()
    reused, line = outcome(model, Reuse()), outcome(model, Lagrange(1))
    low, none, some = (outcome(model, ByFrequency(Reuse(), Lagrange(1), LowPass(k))) for k in (1.0, 0.0, 0.3))
    torch.testing.assert_close(low, reused)
    torch.testing.assert_close(none, line)
    assert not torch.allclose(some, reused, atol=1e-3) and not torch.allclose(some, line, atol=1e-3)


def test_dmd_gets_its_gram_from_the_engine():
    """The blocks' residual doubles from step to step, and so does what is predicted."""
    model = Video(layers=3, sites=())
    model.blocks = torch.nn.ModuleList(Doubling() for _ in model.blocks)
    method = Method(Listed(frozenset(range(4))), WholeStack(), Dmd())
    x = torch.zeros(1, 4, 1, 2, 2)
    with torch.no_grad(), synccache.cached(model, method, steps=9) as handle:
        for step in range(7):
            Doubling.level = 2.0**step
            out = model(x, torch.tensor([900.0 - 100 * step]))
        assert handle.trace.decisions() == ["computed"] * 4 + ["skipped"] * 3
    Doubling.level = 64.0
    with torch.no_grad():
        torch.testing.assert_close(out, model(x, torch.tensor([300.0])), rtol=1e-4, atol=1e-4)


class Doubling(torch.nn.Module):
    level = 1.0

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, x, e):
        return x + self.scale * Doubling.level
