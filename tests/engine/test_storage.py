"""Anchors: bytes, dtype, device, and the fused sum."""

import gc
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import synccache
from synccache import Method
from synccache.engine.store import anchors as history
from synccache.engine.store.anchors import History, add_forecast
from synccache.engine.types import Context, Step
from synccache.forecasters import (
    ByPerson,
    ChannelMask,
    Lagrange,
    LowPass,
    Reuse,
    Subspace,
    TokenSplit,
    learn_basis,
)
from synccache.gates import Interval, Listed
from synccache.scopes import Segments, WholeStack
from synccache.testing import Pipeline, Video, distance, s2v_inputs


def held_by(handle):
    anchors = [a.value for h in handle.engine.session().histories.values() for a in h.anchors]
    probes = [t for kept in handle.engine.session().kept.values() for t in kept.tensors]
    return anchors, probes


def storage(tensors):
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


@pytest.mark.parametrize("method", ["synccache", "synccache-linear", "whole-stack", "interval", "linear"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_bytes_in_the_trace_are_the_bytes_allocated(method, dtype):
    pipe = Pipeline(Video())
    with synccache.cached(pipe, method, storage_dtype=dtype) as handle:
        pipe()
        anchors, probes = held_by(handle)
        assert storage(anchors) == handle.trace.records[-1].bytes == handle.bytes > 0
        assert storage(probes) == handle.trace.records[-1].probe_bytes
        assert bool(probes) == (method not in ("interval", "linear"))
        assert {a.dtype for a in anchors} == {dtype or torch.float32}
        assert handle.trace.bytes_peak == handle.bytes


def test_nothing_else_of_that_size_stays_alive():
    def alive():
        gc.collect()
        return [t for t in gc.get_objects() if issubclass(type(t), torch.Tensor) and not t.is_meta]

    pipe = Pipeline(Video(dim=24))
    before = alive()  # kept, so that no new tensor gets an old one's id
    with synccache.cached(pipe, "synccache") as handle:
        pipe()
        size = held_by(handle)[0][0].numel()
        new = {id(t) for t in alive() if t.numel() == size} - {id(t) for t in before}
        anchors, probes = held_by(handle)
        assert new == {id(t) for t in anchors + probes}
    gc.collect()
    assert handle.bytes == 0


@pytest.mark.parametrize(("ratio", "count"), [(1.0, 3), (0.5, 2), (0.4, 1), (0.01, 1)])
def test_cache_ratio_bounds_the_residuals(s2v, ratio, count):
    """n = min(S, max(1, floor(ratio * L_a))) with four sites and three segments after the probe."""
    inputs = s2v_inputs()
    with torch.no_grad(), synccache.cached(s2v, "synccache", cache_ratio=ratio) as handle:
        for t in (900.0, 800.0, 700.0):
            s2v(inputs.x, torch.tensor([t]), inputs.context, None, inputs.audio_input)
        assert len(handle.engine.session().histories) == count
        token_bytes = 8 * 16 * 4
        assert handle.bytes == count * token_bytes


def test_bfloat16_storage_costs_little_accuracy(s2v):
    inputs, outputs = s2v_inputs(), []
    for dtype in (None, torch.bfloat16, torch.float8_e4m3fn):
        with (
            torch.no_grad(),
            synccache.cached(s2v, "schedule", schedule=[0], storage_dtype=dtype, storage_device="cpu"),
        ):
            for t in (900.0, 800.0):
                out = s2v(inputs.x, torch.tensor([t]), inputs.context, None, inputs.audio_input)[0]
            outputs.append(out)
    half, quarter = (distance(o, outputs[0]) for o in outputs[1:])
    assert 0 < 4 * half < quarter < 0.1


def test_a_bfloat16_model():
    model = Video().bfloat16()
    with torch.no_grad(), synccache.cached(model, Method(Listed(frozenset({0, 1})), Segments(), Lagrange(1))) as handle:
        x, audio = torch.ones(1, 4, 2, 4, 4, dtype=torch.bfloat16), torch.ones(1, 8, dtype=torch.bfloat16)
        for t in (1000.0, 999.0, 998.0, 997.0):
            out = model(x, torch.tensor([t]), audio)
        assert out.dtype is torch.bfloat16 and torch.isfinite(out).all()
        assert handle.trace.skipped() == 2


def test_history_is_bounded_before_the_next_anchor_is_built():
    held = History(2)
    for time in range(5):
        held.make_room()
        assert len(held.anchors) <= 1
        held.push(time, torch.ones(1))
    assert held.times == (4, 3)
    held.push(4, torch.zeros(1))
    assert held.times == (4, 3) and held.anchors[0].value == 0


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
    monkeypatch.setattr(history, "PIECE", 1000)
    with Allocated(value.numel() * 3 // 4) as made:
        got = added()
    assert made.count == 1
    assert got.dtype is dtype and got.stride() == value.stride()
    torch.testing.assert_close(got, whole)


@pytest.mark.parametrize("shape", [(2, 136, 32), (5, 3, 7), (1, 4, 3, 30, 20), (40,), (4, 1, 2)])
@pytest.mark.parametrize("dims", [None, (0, -1), (0, -2)])
def test_pieces_are_small_and_together_the_whole(shape, dims, monkeypatch):
    monkeypatch.setattr(history, "PIECE", 50)
    seen = torch.zeros(shape)
    for piece in history.pieces(shape, dims):
        seen[piece] += 1
        assert dims is not None or seen[piece].numel() <= max(50, seen.numel() // max(shape))
    assert bool((seen == 1).all())


def test_person_and_background_get_their_own_forecast():
    model = Video()
    mask = torch.zeros(4, 4)
    mask[:2] = 1
    anatomy = synccache.Anatomy("video", tuple(model.blocks), sites=(), grid=lambda a: (2, 4, 4))
    outs = {}
    for name, forecaster in [
        ("reuse", Reuse()), ("linear", Lagrange(1)), ("split", ByPerson(Lagrange(1), Reuse())),
    ]:  # fmt: skip
        method = Method(Listed(frozenset({0, 1})), WholeStack(absorb=False), forecaster)
        with torch.no_grad(), synccache.cached(model, method, anatomy=anatomy, mask=mask):
            for t in (1000.0, 900.0, 500.0):
                outs[name] = model(torch.ones(1, 4, 2, 4, 4), torch.tensor([t]))
    torch.testing.assert_close(outs["split"][..., :2, :], outs["linear"][..., :2, :])
    torch.testing.assert_close(outs["split"][..., 2:, :], outs["reuse"][..., 2:, :])
    assert not torch.allclose(outs["linear"], outs["reuse"])


def test_interval_of_one_stores_but_never_skips():
    pipe = Pipeline(Video())
    plain = pipe()
    with synccache.cached(pipe, Method(Interval(1), Segments(), Reuse())) as handle:
        assert torch.equal(pipe(), plain)
        assert handle.bytes > 0
