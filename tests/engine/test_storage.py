"""Anchors: bytes, dtype, device, and the fused sum."""

import gc

import pytest
import torch
from toys import Pipeline, Video, distance, s2v_inputs

import synccache
from synccache import Method
from synccache.engine.history import History, add_forecast
from synccache.forecasters import ByPerson, Lagrange, Reuse
from synccache.gates import Interval, Listed
from synccache.scopes import Segments, WholeStack


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
    history = History(2)
    for time in range(5):
        history.make_room()
        assert len(history.anchors) <= 1
        history.push(time, torch.ones(1))
    assert history.times == (4, 3)
    history.push(4, torch.zeros(1))
    assert history.times == (4, 3) and history.anchors[0].value == 0


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
