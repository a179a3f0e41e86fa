"""What has to hold on every known model: each module of ``tests/models`` gives tiny ones with random weights."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections import defaultdict
from dataclasses import replace
from functools import cache

import models
import pytest
import torch

import synccache
from synccache import Method, UnsupportedModel, anatomies
from synccache.forecasters import Reuse
from synccache.gates import Listed, Never
from synccache.scopes import Modules, Segments
from synccache.testing import (
    check_changed_conditioning,
    check_never_skipping,
    check_removal,
    check_repeated_input,
    check_token_grid,
    count_calls,
    distance,
    successive,
)

pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast")  # diffusers' Mochi asks for float32 there
MODULES = [importlib.import_module(f"models.{found.name}") for found in pkgutil.iter_modules(models.__path__)]
CASES = [case for module in MODULES for case in getattr(module, "CASES", ())]
ALL = pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
CHANGED = pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in CASES if c.changed is not None])
WITHOUT_MODULES = {"hunyuan-avatar"}  # attention is written into their blocks' own forward
BUILT = cache(lambda case: case.build())  # kept for all tests: `remove` has to give it back as it was


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def inputs_of(case, step=0):
    """Keyword arguments of a call, the timestep among them."""
    return {**case.inputs(0), case.timestep: case.times(step)}


def steps_of(case, count):
    """Those of successive steps: the latent moves a little, everything else is the same objects."""
    moved = successive(inputs_of(case), anatomies.find(BUILT(case)), count)
    return [{**inputs, case.timestep: case.times(step)} for step, inputs in enumerate(moved)]


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
def test_never_skipping_is_bit_equal_and_successive_steps_are_one_run(case):
    check_never_skipping(BUILT(case), None, steps_of(case, 3), output=case.output)


@ALL
@pytest.mark.parametrize("recording", [torch.no_grad, torch.inference_mode])
def test_the_same_input_twice_gives_the_same_output_with_the_blocks_left_out(case, recording):
    """After one computed step; under inference mode no version tells of an injection that isn't declared."""
    model, within = BUILT(case), 1 if recording is torch.no_grad else 2
    with recording():
        left_out = check_repeated_input(model, None, inputs_of(case), live=case.live, output=case.output, within=within)
    assert len(left_out) == case.filled


@ALL
def test_modules_inside_blocks_can_be_left_out(case):
    """The same input twice: what is filled in for attention and feed-forward is what they would have given."""
    model, blocks = BUILT(case), anatomies.find(BUILT(case)).blocks
    try:
        handle = synccache.apply(model, Method(Listed(frozenset({0})), Modules(), Reuse()))
    except UnsupportedModel:
        assert case.name in WITHOUT_MODULES
        return
    names = [(r.first, name) for r in handle.regions for name in r.modules]
    try:
        with count_calls({(i, name): blocks[i].get_submodule(name) for i, name in names}) as runs:
            with handle.at(step=0):
                full = case.output(model(**inputs_of(case)))
            assert case.name not in WITHOUT_MODULES and runs == dict.fromkeys(names, 1)
            with handle.at(step=1):
                again = case.output(model(**inputs_of(case)))
            assert handle.trace.decisions() == ["computed", "skipped"] and runs == dict.fromkeys(names, 1)
        assert distance(again, full) < 1e-5
    finally:
        handle.remove()


@CHANGED
def test_changed_conditioning_is_followed_on_a_skipped_step(case):
    inputs = inputs_of(case)
    changed = case.changed(inputs)
    decision = check_changed_conditioning(
        BUILT(case), None, inputs, changed, live=case.live, output=case.output, within=1
    )
    assert decision == "skipped"


@ALL
def test_what_is_found_untold_agrees_with_what_is_declared(case):
    """The engine looks for streams and sites itself. What a ControlNet does between blocks need not be declared (one
    segment may span it), and hides the stream that it changes."""
    model, stored = BUILT(case), defaultdict(dict)
    known = anatomies.find(model)
    untold = replace(known, sites=None, streams={})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", synccache.Notice)
        with synccache.cached(model, Method(Never(), Segments(), Reuse()), anatomy=untold) as handle:
            for inputs in steps_of(case, 3):
                stored.clear()  # what counts is the last step, when all was seen
                handle.on_store = lambda s: stored[s.region].update({s.stream: s.video}) or True
                model(**inputs)
            found = handle.anatomy
    if known.sites or case.changed is None:
        assert set(found.sites) <= {*(known.sites or ()), *known.cuts}
    for region, streams in stored.items():
        declared = known.streams.get(type(known.blocks[region.first]).__name__)
        if declared:
            assert set(streams) <= set(declared)
            assert [name for name, video in streams.items() if video] == [next(iter(declared))] or case.changed
    if case.changed is None:
        check_repeated_input(model, untold, inputs_of(case), output=case.output)


@ALL
def test_the_token_grid_has_as_many_tokens_as_the_video(case):
    assert anatomies.find(BUILT(case)).grid is not None
    check_token_grid(BUILT(case), None, inputs_of(case))


@ALL
def test_remove_gives_every_module_back_as_it_was(case):
    check_removal(BUILT(case), None, inputs_of(case))


@ALL
def test_synccache_by_name_with_a_person_mask_runs_and_skips(case):
    """The mask is pooled to the token grid: a model whose grid is unknown would say so, and a notice is an error."""
    model, errors, calls = BUILT(case), [], steps_of(case, 10)
    for left in (1.0, 0.0):
        mask = torch.ones(8, 12)
        mask[:, :6] = left
        with synccache.cached(model, "synccache", mask=mask, threshold=100.0, steps=10) as handle:
            outs = [case.output(model(**inputs)) for inputs in calls]
            assert handle.trace.decisions()[0] == "computed" and handle.trace.skipped() > 0
            assert len(handle.trace.runs) == 1 and handle.trace.bytes_peak > 0
            assert all(torch.isfinite(out).all() for out in outs)
            errors.append(handle.trace.errors()[1])
    assert errors[0] != pytest.approx(errors[1], rel=1e-4)
