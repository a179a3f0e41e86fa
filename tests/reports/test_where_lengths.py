"""How long a run is: told, a schedule's that it follows, or the last run's; and computing a number of its steps."""

import warnings
from itertools import pairwise

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler
from loops import LATENT, bar, noise, pipeline, prompt, sample, small

import synccache
from synccache import Notice

UNKNOWN = "protects the last steps of a run, and nobody tells how many.*Pass steps= to apply"
PROBING = ["asymmetric", "dicache", "synccache", "synccache-cfg", "synccache-linear", "whole-stack"]
BUDGETED = [*PROBING, "easycache", "teacache"]
ENDS = "##..#..#..#..#..#..#"  # of 'interval' in a run of 20 steps: two of warm-up, every third, the last one


def run(model, steps=20, seed=1, **given):
    return sample(model, [prompt(1), prompt(2)], noise(seed, *LATENT), steps=steps, **given)


def own_loop(model, steps, seed=1):
    """A sampler that asks no scheduler."""
    x, sigmas = noise(seed, *LATENT), torch.linspace(1, 0, steps + 1)
    with torch.no_grad():
        for now, after in pairwise(sigmas):
            x = x + (after - now) * model(x, 1000 * now[None], **prompt(1), return_dict=False)[0]


# -- told, a schedule's, or the last run's ---------------------------------------------------------------------------


def test_the_schedule_that_a_run_follows_tells_also_where_it_begins_late():
    pipe = pipeline(small())
    with synccache.cached(pipe, "interval") as handle:
        for steps, first in ((20, 0), (30, 0), (20, 10)):
            run(pipe.transformer, steps, scheduler=pipe.scheduler, first=first)
        assert [bar(handle, n) for n in range(3)] == [ENDS, "###" + "..#" * 9, "#..#..#..#"]


def test_what_is_told_is_believed_before_a_schedule():
    pipe = pipeline(small())
    with synccache.cached(pipe, "interval", steps=20) as handle:
        run(pipe.transformer, 30, scheduler=pipe.scheduler)
        assert bar(handle) == ENDS + "#" * 10  # beyond what was told nothing is left out
    with synccache.cached(pipe.transformer, "interval") as handle:
        with handle.at(total=20):
            run(pipe.transformer)
        run(pipe.transformer, around=lambda step, _: handle.at(step=step, total=20))
        assert bar(handle, 0) == bar(handle, 1) == ENDS and len(handle.trace.runs) == 2


def test_diffusers_own_context_tells_step_and_length():
    """In 0.42 a pipeline's ``cache_context`` names the step too."""
    model, total = small(), 20
    with synccache.cached(model, "interval") as handle:
        context = lambda step, number: model.cache_context(  # noqa: E731
            ("cond", "uncond")[number], step_index=step, num_inference_steps=total
        )
        run(model, around=context)
        assert bar(handle) == ENDS and {r.branch for r in handle.trace} == {"cond", "uncond"}


def test_the_last_complete_run_tells_where_nobody_else_does():
    model = small()
    with synccache.cached(model, "interval") as handle:
        with pytest.warns(Notice, match=UNKNOWN) as said:
            for steps, stop in ((20, None), (20, None), (20, 7), (20, None)):
                run(model, steps, stop=stop, seed=len(handle.trace))
        assert len(said) == 1
        assert [bar(handle, n) for n in range(4)] == ["####..#..#..#..#..#.", ENDS, ENDS[:7], ENDS]


@pytest.mark.parametrize(
    "scheduler",
    [FlowMatchEulerDiscreteScheduler, DDIMScheduler, diffusers.UniPCMultistepScheduler, FlowMatchHeunDiscreteScheduler],
)
def test_a_scheduler_that_nobody_has_set_tells_nothing(scheduler):
    """As made it has a thousand timesteps, of which the first is this run's first."""
    pipe = pipeline(small(), scheduler())
    with synccache.cached(pipe, "interval") as handle:
        with pytest.warns(Notice, match=UNKNOWN):
            own_loop(pipe.transformer, 20)
        own_loop(pipe.transformer, 20, seed=2)
        assert bar(handle, 0) == "####..#..#..#..#..#." and bar(handle, 1) == ENDS


@pytest.mark.parametrize("steps", [10, 25])
def test_a_scheduler_whose_timesteps_are_not_the_ones_that_arrive_tells_nothing(steps):
    """Its first timestep is this run's first, too, and every second or fifth one is in both."""
    pipe = pipeline(small())
    pipe.scheduler.set_timesteps(50)
    with synccache.cached(pipe, "interval") as handle:
        with pytest.warns(Notice, match=UNKNOWN):
            own_loop(pipe.transformer, steps)
        own_loop(pipe.transformer, steps, seed=2)
        assert len(handle.trace.runs) == 2 and handle.trace.records[-1].step == steps - 1
        assert handle.trace.records[-1].decision == "computed"
        run(pipe.transformer, 40, scheduler=pipe.scheduler)
        assert bar(handle) == "####" + "..#" * 12  # its own pipeline's runs it still tells


def test_a_length_that_needs_no_telling_is_not_asked_for():
    """Nothing that is protected hangs on it."""
    model = small()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for method, given in (("interval", {"last": 0, "warmup": 2}), ("taylorseer", {}), ("none", {})):
            with synccache.cached(model, method, **given):
                run(model)


# -- a number of computed steps --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", BUDGETED)
def test_the_methods_that_take_a_number_compute_just_that_many_from_the_first_run_on(method):
    pipe = pipeline(small(3))
    for wanted, steps in ((5, 20), (1, 9), (2, 9), (4, 9), (15, 9)):
        with synccache.cached(pipe, method, computed_steps=wanted) as handle:
            for seed in (1, 2):
                sample(pipe.transformer, [prompt(1)], noise(seed, *LATENT), steps=steps, scheduler=pipe.scheduler)
            for number in (0, 1):
                computed = [i for i, mark in enumerate(bar(handle, number)) if mark == "#"]
                assert len(computed) == min(wanted, steps) and computed[0] == 0
                if method not in ("dicache", "first-block") and wanted > 1:
                    assert computed[-1] == steps - 1


def test_all_methods_that_take_a_number_are_tried():
    taking = {name for name, recipe in synccache.methods().items() if "computed_steps" in recipe.settings}
    assert taking - {"schedule", "searched", "fewer-steps"} == set(BUDGETED)  # those go by a list


def test_without_a_profile_the_computed_steps_are_spread():
    pipe = pipeline(small())
    with synccache.cached(pipe, "synccache", computed_steps=8) as handle:
        run(pipe.transformer, 40, scheduler=pipe.scheduler)
        computed = [i for i, mark in enumerate(bar(handle)) if mark == "#"]
        assert computed[:2] == [0, 1] and computed[-1] == 39
        gaps = [b - a for a, b in pairwise(computed[1:])]
        assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("scheduler", [FlowMatchHeunDiscreteScheduler, FlowMatchEulerDiscreteScheduler])
def test_second_evaluations_are_part_of_their_step(scheduler):
    pipe = pipeline(small(), scheduler())
    with synccache.cached(pipe, "synccache", computed_steps=6) as handle:
        run(pipe.transformer, 15, scheduler=pipe.scheduler)
        by_step = {}
        for record in handle.trace:
            by_step.setdefault(record.step, set()).add(record.decision)
        assert len(by_step) == 15 and sorted(map(len, by_step.values())) == [1] * 15
        assert sum(decisions == {"computed"} for decisions in by_step.values()) == 6


def test_a_number_of_steps_of_a_run_of_unknown_length_is_computed_whole_and_said():
    model = small()
    with synccache.cached(model, "synccache", computed_steps=5) as handle:
        with pytest.warns(Notice, match=UNKNOWN) as said:
            run(model)
            run(model, seed=2)  # as long as the one before, it may be taken
        assert len(said) == 1
        assert [handle.trace.computed(n) for n in (0, 1)] == [20, 5]
    with synccache.cached(model, "synccache", computed_steps=5, steps=20) as handle:
        run(model)
        assert handle.trace.computed() == 5
