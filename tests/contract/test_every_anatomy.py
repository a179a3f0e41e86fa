"""What has to hold on every known model: each module of ``tests/models`` gives tiny ones with random weights."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import models
import pytest
import torch
from toys import distance

import synccache
from synccache import Method, UnsupportedModel, anatomies
from synccache.forecasters import Reuse
from synccache.gates import Listed, Never, Probe
from synccache.scopes import Modules, Segments

pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast")  # diffusers' Mochi asks for float32 there
MODULES = [importlib.import_module(f"models.{found.name}") for found in pkgutil.iter_modules(models.__path__)]
CASES = [case for module in MODULES for case in getattr(module, "CASES", ())]
ALL = pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
CHANGED = pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in CASES if c.changed is not None])
FIRST = Method(Listed(frozenset({0})), Segments(), Reuse())  # the first step is computed, all others are filled in
WITHOUT_MODULES = {"hunyuan-avatar"}  # attention is written into their blocks' own forward
BUILT = cache(lambda case: case.build())  # kept for all tests: `remove` has to give it back as it was


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def shrunk(value):
    """Timesteps so small that all embed alike, to rounding, and yet in the same order."""
    if isinstance(value, list | tuple):
        return type(value)(shrunk(v) for v in value)
    return value * 1e-12


def copied(value):
    """Own tensors: a model may write into those it is given."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, list | tuple):
        return type(value)(copied(v) for v in value)
    return value


def call(case, model, step, inputs, still=False):
    """The model's output at a step; ``still``: with a timestep that moves on, but by next to nothing."""
    time = case.times(step)
    arguments = {name: copied(value) for name, value in inputs.items()}
    return case.output(model(**arguments, **{case.timestep: shrunk(time) if still else time}))


@contextmanager
def counted(model, names=()):
    """How often each block ran (by index), and each named module."""
    runs = Counter()
    modules = {**dict(enumerate(anatomies.find(model).blocks)), **{name: model.get_submodule(name) for name in names}}

    def count(key):
        return lambda *_: runs.update([key])

    hooks = [module.register_forward_hook(count(key)) for key, module in modules.items()]
    try:
        yield runs
    finally:
        for hook in hooks:
            hook.remove()


def test_every_family_has_a_model_here():
    """But for ComfyUI's, which are tested with their node."""
    seen = {next((f for f in anatomies.FAMILIES if f.recognise(BUILT(case))), None) for case in CASES}
    assert set(anatomies.FAMILIES) - seen == {anatomies.comfy}


@ALL
def test_it_is_known_by_name(case):
    anatomy = anatomies.find(BUILT(case))
    assert anatomy.name == case.anatomy
    assert anatomy.timestep == case.timestep and anatomy.latent in case.inputs(0)
    assert len(set(anatomy.blocks)) == len(anatomy.blocks) >= case.filled > 0


@ALL
@pytest.mark.parametrize("gate", [Never(), Never(Probe())], ids=["blind", "probing"])
def test_never_skipping_is_bit_equal(case, gate):
    model, inputs = BUILT(case), [case.inputs(i) for i in range(2)]
    plain = [call(case, model, i, inputs[i]) for i in range(2)]
    with synccache.cached(model, Method(gate, Segments(), Reuse())) as handle:
        assert all(torch.equal(call(case, model, i, inputs[i]), plain[i]) for i in range(2))
        assert handle.trace.decisions() == ["computed"] * 2 and len(handle.trace.runs) == 1
    assert torch.equal(call(case, model, 0, inputs[0]), plain[0])


@ALL
@pytest.mark.parametrize("recording", [torch.no_grad, torch.inference_mode])
def test_the_same_input_twice_gives_the_same_output_with_the_blocks_left_out(case, recording):
    model, inputs = BUILT(case), case.inputs(0)
    blocks = range(len(anatomies.find(model).blocks))
    with recording(), synccache.cached(model, FIRST) as handle, counted(model, case.live) as runs:
        if recording is torch.inference_mode:  # no version tells there of an injection that wasn't declared
            call(case, model, 0, inputs, still=True)
            handle.reset()
            runs.clear()
        full = call(case, model, 0, inputs, still=True)
        computed = runs.copy()
        runs.clear()
        again = call(case, model, 1, inputs, still=True)
        assert handle.trace.decisions() == ["computed", "skipped"]
        assert sum(computed[i] - runs[i] for i in blocks) == case.filled
        assert all(computed[i] == 1 for i in blocks)
        assert {n: runs[n] for n in case.live} == {n: computed[n] for n in case.live}
        assert all(computed[n] > 0 for n in case.live)
        assert float(full.std()) > 0 and distance(again, full) < 1e-5


@ALL
def test_modules_inside_blocks_can_be_left_out(case):
    """The same input twice: what is filled in for attention and feed-forward is what they would have given."""
    model, inputs, runs = BUILT(case), case.inputs(0), Counter()
    blocks = anatomies.find(model).blocks
    try:
        handle = synccache.apply(model, Method(Listed(frozenset({0})), Modules(), Reuse()))
    except UnsupportedModel:
        assert case.name in WITHOUT_MODULES
        return
    names = [(r.first, name) for r in handle.regions for name in r.modules]
    hooks = [blocks[i].get_submodule(n).register_forward_hook(lambda *_, k=(i, n): runs.update([k])) for i, n in names]
    try:
        full = call(case, model, 0, inputs, still=True)
        assert case.name not in WITHOUT_MODULES and set(runs.values()) == {1}
        again = call(case, model, 1, inputs, still=True)
        assert handle.trace.decisions() == ["computed", "skipped"] and set(runs.values()) == {1}
        assert distance(again, full) < 1e-5
    finally:
        handle.remove()
        for hook in hooks:
            hook.remove()


@CHANGED
def test_changed_conditioning_is_followed_on_a_skipped_step(case):
    model, inputs = BUILT(case), case.inputs(0)
    other = case.changed(inputs)
    stale = call(case, model, 1, inputs, still=True)
    true = call(case, model, 1, other, still=True)
    with synccache.cached(model, FIRST) as handle, counted(model, case.live) as runs:
        call(case, model, 0, inputs, still=True)
        computed = runs.copy()
        runs.clear()
        followed = call(case, model, 1, other, still=True)
        assert handle.trace.decisions() == ["computed", "skipped"]
        assert {n: runs[n] for n in case.live} == {n: computed[n] for n in case.live}
    assert distance(stale, true) > 1e-3
    assert not torch.allclose(followed, stale, rtol=1e-4)
    assert distance(followed, true) < distance(followed, stale)
    assert distance(followed, true) < distance(stale, true)


@ALL
def test_nothing_that_a_computed_call_shows_contradicts_what_is_declared(case):
    """The engine looks for streams and sites itself, untold. What a ControlNet does between blocks need not be declared
    (one segment may span it), and hides the stream that it changes."""
    model = BUILT(case)
    known = anatomies.find(model)
    untold = replace(known, sites=None, streams={})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", synccache.Notice)
        with synccache.cached(model, Method(Never(), Segments(), Reuse()), anatomy=untold) as handle:
            for step in range(3):
                call(case, model, step, case.inputs(0))
            structure, found = handle.engine.structures[0], handle.anatomy
    assert structure.settled
    if known.sites or case.changed is None:
        assert set(found.sites) <= {*(known.sites or ()), *known.cuts}
    for index, block in enumerate(known.blocks):
        declared, seen = known.streams.get(type(block).__name__), structure.streams(index)
        if declared and case.changed is None:
            assert next(iter(seen)) == next(iter(declared)) and seen.items() <= declared.items()
        elif declared:
            assert seen.items() <= declared.items()


@ALL
def test_remove_gives_every_module_its_class_back(case):
    model = BUILT(case)
    before = [(m, type(m), type(m).forward, dict(m.__dict__)) for m in model.modules()]
    handle = synccache.apply(model, FIRST)
    call(case, model, 0, case.inputs(0))
    assert sum(type(m) is not cls for m, cls, *_ in before) == 1 + len(anatomies.find(model).blocks)
    handle.remove()
    assert [(m, type(m), type(m).forward, dict(m.__dict__)) for m in model.modules()] == before
    assert handle.bytes == 0


@ALL
def test_synccache_by_name_with_a_person_mask_runs_and_skips(case):
    """The mask is pooled to the token grid: a model whose grid is unknown would say so, and a notice is an error."""
    model, errors = BUILT(case), []
    for left in (1.0, 0.0):
        mask = torch.ones(8, 12)
        mask[:, :6] = left
        with synccache.cached(model, "synccache", mask=mask, threshold=100.0) as handle:
            outs = [call(case, model, step, case.inputs(step)) for step in range(8)]
            assert handle.trace.decisions()[0] == "computed" and handle.trace.skipped() > 0
            assert len(handle.trace.runs) == 1 and handle.bytes > 0
            assert all(torch.isfinite(out).all() for out in outs)
            errors.append(handle.trace.errors()[1])
    assert errors[0] != pytest.approx(errors[1], rel=1e-4)
