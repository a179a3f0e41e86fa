"""Windows of a longer video, tiles: told, each has a state of its own; not told, they are computed, and said once."""

from contextlib import nullcontext

import pytest
import torch
from calls import Echo, cached, decisions, echo, listed, picture, prompt, seen

import synccache
from synccache import Method, Notice
from synccache.forecasters import Reuse
from synccache.gates import Last, Listed
from synccache.scopes import Modules, WholeModel, WholeStack
from synccache.testing import Pipeline, Video

NOTICE = "The model is called several times at one step with latents of their own"
TIMES = (1000, 900, 800)


def window(number, step=0):
    """One that moves a little from step to step, and looks like no other."""
    return picture(number, number) + step * (torch.arange(64) > 0)[:, None]


def near(number):
    """One that differs from others only a little, as windows of a still scene do."""
    return picture(1, number) + picture(number, 0) / 8


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_told_windows_are_cached_each_for_itself(order):
    model = Echo()
    with cached(model, listed(0)) as handle:
        for step, t in enumerate(TIMES):
            for number in (1, 2, 3) if step == 0 else order:
                with handle.at(window=number):
                    assert echo(model, t, window(number, step)) == number
        assert seen(handle, "run", "step", "evaluation") == [(0, step, 0) for step in range(3) for _ in range(3)]
        assert decisions(handle) == "###" + "......"
        assert handle.trace.bytes_peak == handle.bytes == 3 * 64 * 3 * 4


def test_told_windows_with_passes_each():
    model, texts = Echo(), [prompt(10), prompt(0)]
    with cached(model, listed(0)) as handle:
        for step, t in enumerate(TIMES):
            for text in texts:
                for number in (1, 2):
                    with handle.at(window=number):
                        assert echo(model, t, window(number, step), text) == number + float(text.mean())
        assert {(r.branch, r.evaluation) for r in handle.trace} == {(0, 0), (1, 0)}
        assert decisions(handle) == "####" + "........"


def test_a_new_run_of_one_window_lets_go_of_the_last_run_of_the_others():
    model = Echo()
    with cached(model, listed(0)) as handle:
        for run, numbers in enumerate(((1, 2, 3), (1, 4))):
            for step, t in enumerate(TIMES[:2]):
                for number in numbers:
                    with handle.at(window=number):
                        assert echo(model, t, window(number + 10 * run, step)) == number + 10 * run
        assert seen(handle, "run", "step") == [(0, 0)] * 3 + [(0, 1)] * 3 + [(1, 0)] * 2 + [(1, 1)] * 2
        assert decisions(handle) == "###..." + "##.." and handle.bytes == 2 * 64 * 3 * 4


def test_told_windows_are_freed_with_the_last_step_and_with_the_request():
    model, size = Echo(), 64 * 3 * 4
    with cached(model, listed(0), steps=12) as handle:
        for step in (0, 1, 11):
            for number in (1, 2):
                with handle.at(window=number, step=step):
                    echo(model, 7, window(number))
            assert handle.bytes == (0 if step == 11 else 2 * size)
        with handle.request("other"):
            for number in (1, 2):
                with handle.at(window=number):
                    echo(model, 7, window(number))
            assert handle.bytes == 2 * size
        assert handle.bytes == 0


@pytest.mark.parametrize("scope", [WholeStack(absorb=False), WholeModel()])
@pytest.mark.parametrize("told", [None, "step"])
def test_windows_that_nobody_tells_apart_are_computed_and_never_mixed_up(scope, told):
    """Also in another order, and where the step is told, but not the window."""
    model = Echo()
    with cached(model, Method(Listed(frozenset({0})), scope, Reuse())) as handle:
        with pytest.warns(Notice, match=NOTICE) as said:
            for step, t in enumerate(TIMES):
                for number in ((1, 2, 3), (2, 3, 1), (1, 1, 2))[step]:
                    with handle.at(step=step) if told else nullcontext():
                        assert echo(model, t, window(number, step)) == number
        assert len(said) == 1 and handle.bytes == 0 and decisions(handle) == "#" * 9
        assert {r.reason for r in handle.trace.records[1:]} == {"window"}
        assert [r.step for r in handle.trace] == [0] * 3 + [1] * 3 + [2] * 3
        for step, t in enumerate(TIMES):  # the next run has one only
            echo(model, t, window(5, step))
        assert decisions(handle)[9:] == "#.."


def test_untold_windows_with_passes_named_by_the_caller():
    """ComfyUI names the conditionings, not the windows."""
    model = Echo()
    with cached(model, listed(0)) as handle, pytest.warns(Notice, match=NOTICE):
        for t in TIMES:
            for number in (1, 2):
                for name, text in (("cond", prompt(10)), ("uncond", prompt(0))):
                    with handle.at(branch=name):
                        assert echo(model, t, window(number), text) == number + float(text.mean())
        assert decisions(handle) == "#" * 12 and handle.bytes == 0


def test_windows_of_modules_and_of_gates_that_watch_are_not_kept_either():
    model = Video()
    method = Method(Last(Listed(frozenset({0}))), Modules(), Reuse())
    for given in (method, synccache.methods()["easycache"].name):
        with torch.no_grad(), pytest.warns(Notice, match=NOTICE), cached(model, given, steps=12) as handle:
            for t in (1000.0, 900.0, 800.0):
                for seed in range(3):
                    x = torch.randn(1, 4, 2, 4, 4, generator=torch.Generator().manual_seed(seed))
                    model(x, torch.tensor([t]))
                    assert seed == 0 or handle.bytes == 0
            assert handle.trace.skipped() == 0


def test_where_the_schedule_knows_no_second_evaluation_a_latent_that_differs_little_is_a_window_too():
    pipe = Pipeline(Echo())
    with cached(pipe, listed(0)) as handle, pytest.warns(Notice, match=NOTICE):
        for t in TIMES:
            for number in (1, 2):
                assert echo(pipe.transformer, t, near(number), prompt(0)) == number
        assert decisions(handle) == "#" * 6


def test_windows_that_differ_little_are_told_from_evaluations_by_how_far_they_are_apart():
    model = Echo()
    with cached(model, listed(0)) as handle, pytest.warns(Notice, match=NOTICE):
        for t in TIMES:
            for number in (1, 2):
                assert echo(model, t, near(number), prompt(0)) == number
        assert decisions(handle) == "#" * 6


def test_a_run_cancelled_after_one_step_leaves_nothing_where_steps_are_told():
    model = Echo()
    with cached(model, listed(0)) as handle, pytest.warns(Notice, match=NOTICE):
        for number, steps in ((1, (0,)), (2, (0, 1, 2))):
            for step in steps:
                with handle.at(step=step, branch="cond"):
                    assert echo(model, 1000 - step, window(number, step)) == number
