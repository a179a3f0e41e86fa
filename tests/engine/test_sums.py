"""The sum that predicts from anchors: fused, rounded once, and in pieces where a copy is needed on the way."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from synccache.core import sums
from synccache.core.sums import add_forecast
from synccache.core.types import Context, Step
from synccache.forecasters import ChannelMask, LowPass, Subspace, TokenSplit, learn_basis


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_the_fused_sum(dtype, stored):
    torch.manual_seed(0)
    x, anchors = torch.randn(2, 5, 3).to(dtype), [torch.randn(2, 5, 3).to(stored) for _ in range(3)]
    before = x.clone()
    weights = torch.tensor([[1.5, 0.0, -0.5], [1.0, 0.25, 0.0]], dtype=torch.float64)
    shares = torch.rand(1, 2, 5, 1)
    shares = torch.cat([shares, 1 - shares])
    plain = x.double() + 1.5 * anchors[0].double() - 0.5 * anchors[2].double()
    tolerance = {"rtol": 1e-2, "atol": 1e-2} if dtype is torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-6}
    got = add_forecast(x, anchors, weights[:1])
    assert got.dtype is dtype
    torch.testing.assert_close(got.double(), plain, **tolerance)
    share = torch.einsum("gbsd,gj->jbsd", shares.double(), weights)
    split = sum(share[j] * anchors[j].double() for j in range(3))
    torch.testing.assert_close(add_forecast(x, anchors, weights, shares).double(), x.double() + split, **tolerance)
    torch.testing.assert_close(add_forecast(x, anchors, weights, shares, onto=False).double(), split, **tolerance)
    torch.testing.assert_close(add_forecast(x, anchors, weights[:1], onto=False).double(), plain - x, **tolerance)
    assert torch.equal(x, before)
    assert torch.equal(add_forecast(x, anchors, torch.zeros(1, 3)), x)
    assert add_forecast(x, anchors, torch.zeros(1, 3)) is not x


def test_a_bfloat16_sum_is_rounded_once():
    x = torch.tensor([[[256.0]]], dtype=torch.bfloat16)
    anchors = [torch.tensor([[[0.9]]], dtype=torch.bfloat16)] * 2
    assert float(add_forecast(x, anchors, torch.tensor([[1.0, 1.0]]))) == 258  # 257.8; adding twice in bfloat16: 256


class Allocated(TorchDispatchMode):
    """Counts the new tensors of at least so many elements."""

    def __init__(self, size):
        super().__init__()
        self.size, self.count = size, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        old = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        new = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        self.count += sum(t.numel() >= self.size and t.untyped_storage().data_ptr() not in old for t in new)
        return out


def features(shape, count, dtype):
    random = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=random).to(dtype) for _ in range(count)]


BASIS = learn_basis(torch.randn(64, 32, generator=torch.Generator().manual_seed(0)), 0.5)
VIDEO = Context(Step(6), grid=(2, 6, 10), offset=8, video=True)
BY_CHANNEL = ChannelMask(torch.arange(32) % 2, 2)
BY_TOKEN = replace(VIDEO, mask=torch.linspace(0, 1, 120)[None])
SPLITS = [
    (None, VIDEO), (BY_CHANNEL, VIDEO), (TokenSplit(), BY_TOKEN), (Subspace(BASIS), VIDEO),
    (LowPass(0.4), VIDEO), (LowPass(0.4), Context(Step(6), video=True)),
]  # fmt: skip


@pytest.mark.parametrize("onto", [True, False])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("split", "context"), SPLITS)
def test_nothing_else_of_a_features_size_is_made(split, context, dtype, stored, onto, monkeypatch):
    """The result alone. And the pieces are the whole: to rounding."""
    shape = (2, 136, 32)  # more pieces than samples, and no whole number of them in any direction
    value, *anchors = features(shape, 4, dtype)
    anchors = [a.to(stored) for a in anchors]
    weights = torch.tensor([[1.5, 0.25, -0.5], [1.0, 0.5, 0.0]], dtype=torch.float64)

    def added():
        if split is None:
            return add_forecast(value, anchors, weights[:1], onto=onto)
        return split.add(value, anchors, weights, context, onto)

    whole = added()
    monkeypatch.setattr(sums, "PIECE", 1000)
    with Allocated(value.numel() * 3 // 4) as made:
        got = added()
    assert made.count == 1
    assert got.dtype is dtype and got.stride() == value.stride()
    torch.testing.assert_close(got, whole)


@pytest.mark.parametrize("shape", [(2, 136, 32), (5, 3, 7), (1, 4, 3, 30, 20), (40,), (4, 1, 2)])
@pytest.mark.parametrize("dims", [None, (0, -1), (0, -2)])
def test_pieces_are_small_and_together_the_whole(shape, dims, monkeypatch):
    monkeypatch.setattr(sums, "PIECE", 50)
    seen = torch.zeros(shape)
    for piece in sums.pieces(shape, dims):
        seen[piece] += 1
        assert dims is not None or seen[piece].numel() <= max(50, seen.numel() // max(shape))
    assert bool((seen == 1).all())
