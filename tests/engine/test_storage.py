"""What is stored: bytes, dtype, device, and what ``on_store`` shows of it."""

import gc
import weakref

import pytest
import torch
from calls import X, cached, call, listed

import synccache
from synccache import Method
from synccache.engine.store.anchors import History
from synccache.forecasters import ByPerson, Lagrange, Reuse
from synccache.gates import Interval, Listed, Never
from synccache.scopes import Modules, Segments, WholeModel, WholeStack
from synccache.testing import AddModel, Pipeline, Video, distance, s2v_inputs


def storage(tensors):
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


@pytest.mark.parametrize("method", ["synccache", "synccache-linear", "whole-stack", "interval", "linear"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_bytes_in_the_trace_are_the_bytes_allocated(method, dtype):
    pipe, stored, dtypes = Pipeline(Video()), [], set()

    def show(shown):
        stored.append(weakref.ref(shown.value))
        dtypes.add(shown.value.dtype)
        return True

    def check(step):
        alive, last = [t for t in (r() for r in stored) if t is not None], handle.trace.records[-1]
        if step < 19:
            assert storage(alive) == last.bytes == handle.bytes - last.probe_bytes > 0
            assert bool(last.probe_bytes) == (method not in ("interval", "linear"))
        else:
            assert alive == [] and handle.bytes == 0 and last.bytes == handle.trace.bytes_peak

    with cached(pipe, method, storage_dtype=dtype) as handle:
        handle.on_store = show
        pipe(on_step=check)
    assert dtypes == {dtype or torch.float32} and len(stored) > 10


def test_nothing_else_of_that_size_stays_alive():
    def alive():
        gc.collect()
        return [t for t in gc.get_objects() if issubclass(type(t), torch.Tensor) and not t.is_meta]

    def check(step):
        if step in (9, 19):
            new = [t for t in alive() if t.numel() == 32 * 24 and id(t) not in known]
            assert storage(new) == handle.bytes and (step == 19) == (new == [])

    pipe = Pipeline(Video(dim=24))
    before = alive()  # kept, so that no new tensor gets an old one's id
    known = {id(t) for t in before}
    with cached(pipe, "synccache") as handle:
        pipe(on_step=check)


def test_what_on_store_refuses_is_not_kept_and_so_not_filled_in():
    model = AddModel()
    with cached(model, listed(0, 1)) as handle:
        shown = []
        handle.on_store = lambda stored: shown.append(stored) or stored.step.index > 0
        assert [call(model, t, level) for t, level in ((1000, 1), (900, 2), (800, 3))] == [26, 32, 32]
        assert [(s.region.members, s.stream, s.step.index, s.branch, s.leads, s.run) for s in shown] == [
            ((0, 1, 2), "hidden_states", step, 0, True, (None, 0)) for step in (0, 1)
        ]
        assert [s.value.unique().tolist() for s in shown] == [[6], [12]] and handle.bytes == X.numel() * 4
        assert shown[0].tokens()[0] is shown[0].value and shown[0].tokens()[1] is None
        handle.on_store = lambda stored: False
        assert [call(model, t, level) for t, level in ((1000, 1), (900, 2), (800, 3))] == [26, 32, 38]
        assert handle.bytes == 0 and handle.trace.records[-1].reason == "no anchors"


@pytest.mark.parametrize(("ratio", "count"), [(1.0, 3), (0.5, 2), (0.4, 1), (0.01, 1)])
def test_cache_ratio_bounds_the_residuals(s2v, ratio, count):
    """n = min(S, max(1, floor(ratio * L_a))) with four sites and three segments after the probe."""
    inputs = s2v_inputs()
    with torch.no_grad(), synccache.cached(s2v, "synccache", cache_ratio=ratio, steps=20) as handle:
        for t in (900.0, 800.0, 700.0):
            s2v(inputs.x, torch.tensor([t]), inputs.context, None, inputs.audio_input)
        assert len(handle.regions) == count and handle.bytes == (count + 1) * 8 * 16 * 4  # and one probe


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
    with torch.no_grad(), cached(model, Method(Listed(frozenset({0, 1})), Segments(), Lagrange(1))) as handle:
        x, audio = torch.ones(1, 4, 2, 4, 4, dtype=torch.bfloat16), torch.ones(1, 8, dtype=torch.bfloat16)
        for t in (1000.0, 999.0, 998.0, 997.0):
            out = model(x, torch.tensor([t]), audio)
        assert out.dtype is torch.bfloat16 and torch.isfinite(out).all()
        assert handle.trace.skipped() == 2


@pytest.mark.parametrize("scope", [WholeStack(absorb=False), WholeStack(), WholeModel(), Modules()])
def test_an_anchor_goes_before_the_one_that_pushes_it_out_is_kept(scope):
    """At no moment there are more than the forecaster wants, the one that is about to be stored included."""
    model, held = Video(layers=2), {}

    def look(stored):
        held.setdefault(stored.region.id, []).append(handle.bytes)
        return True

    with cached(model, Method(Never(), scope, Lagrange(1))) as handle, torch.no_grad():
        handle.on_store = look
        for step in range(5):
            model(torch.ones(1, 4, 2, 4, 4), torch.tensor([900.0 - step]), torch.ones(1, 8))
        both, regions = handle.bytes, len(handle.regions)
    first = next(iter(held.values()))
    assert first == [0, both // 2, *[both - both // 2 // regions] * 3]


def test_a_second_value_of_a_step_replaces_the_first():
    held = History(2)
    for time, value in ((0, 0), (1, 1), (2, 2), (2, 3)):
        held.push(time, torch.full((1,), float(value)))
    assert held.times == (2, 1) and [float(v) for v in held.values] == [3, 1]


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
        with torch.no_grad(), cached(model, method, anatomy=anatomy, mask=mask):
            for t in (1000.0, 900.0, 500.0):
                outs[name] = model(torch.ones(1, 4, 2, 4, 4), torch.tensor([t]))
    torch.testing.assert_close(outs["split"][..., :2, :], outs["linear"][..., :2, :])
    torch.testing.assert_close(outs["split"][..., 2:, :], outs["reuse"][..., 2:, :])
    assert not torch.allclose(outs["linear"], outs["reuse"])


def test_interval_of_one_stores_but_never_skips():
    pipe = Pipeline(Video())
    plain = pipe()
    with cached(pipe, Method(Interval(1), Segments(), Reuse())) as handle:
        assert torch.equal(pipe(), plain)
        assert handle.trace.bytes_peak > 0
