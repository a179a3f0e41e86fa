"""The control that every cache has to beat: shorter schedules, even or picked."""

import pytest
import torch
from diffusers import DDIMScheduler, UniPCMultistepScheduler

import synccache
from synccache import InputError
from synccache.planner import learn_profile
from synccache.testing import Pipeline, Video, distance


def test_fewer_steps_shortens_the_schedule_and_restores_it():
    pipe, short = Pipeline(Video()), Pipeline(Video())
    with synccache.cached(pipe, "fewer-steps", computed_steps=6) as handle:
        out = pipe(steps=20)
        assert handle.trace.decisions() == ["computed"] * 6 and len(pipe.scheduler.timesteps) == 6
    assert torch.equal(out, short(steps=6))
    assert "set_timesteps" not in vars(pipe.scheduler)
    pipe.scheduler.set_timesteps(20)
    assert len(pipe.scheduler.timesteps) == 20


def test_a_run_that_is_shorter_anyway_stays_as_it_is():
    pipe = Pipeline(Video())
    with synccache.cached(pipe, "fewer-steps") as handle:
        assert torch.equal(pipe(steps=8), Pipeline(Video())(steps=8)) and handle.trace.computed() == 8
        pipe(steps=40)
        assert handle.trace.computed() == 12


def test_fewer_steps_resamples_sigmas_that_are_given():
    pipe = Pipeline(Video())
    with synccache.cached(pipe, "fewer-steps", computed_steps=3):
        pipe.scheduler.set_timesteps(5, sigmas=[1.0, 0.8, 0.6, 0.4, 0.2])
        assert pipe.scheduler.timesteps.tolist() == pytest.approx([1000, 600, 200])


def test_picked_steps_are_those_of_the_longer_run():
    pipe, given = Pipeline(Video()), [0, 1, 4, 9]
    with synccache.cached(pipe, "fewer-steps", schedule=given) as handle:
        out = pipe(steps=10)
        assert handle.trace.decisions() == ["computed"] * 4
        assert [r.timestep for r in handle.trace if r.decides] == pytest.approx([1000, 900, 600, 100])
    with synccache.cached(pipe, "fewer-steps", schedule=list(range(10))):
        assert torch.equal(pipe(steps=10), Pipeline(Video())(steps=10))
    own = pipe.scheduler.set_timesteps
    pipe.scheduler.set_timesteps = lambda steps: own(4, sigmas=[1.0, 0.9, 0.6, 0.1])
    assert distance(pipe(steps=4), out) < 1e-6


def test_a_solver_of_higher_order_goes_on_from_the_picked_steps():
    """As if it had been given these sigmas; its next run has all of them again."""
    pipe, sample = Pipeline(Video()), torch.ones(1, 4, 2, 4, 4)
    pipe.scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    pipe.scheduler.set_timesteps(20)
    picked, sigmas = [0, 2, 5, 11, 19], pipe.scheduler.sigmas[:-1]

    def denoised(scheduler):
        out = sample
        for t in scheduler.timesteps:
            out = scheduler.step(out.sin() * t / 1000, t, out, return_dict=False)[0]
        return out

    with synccache.cached(pipe, "fewer-steps", schedule=picked):
        pipe.scheduler.set_timesteps(20)
        out = denoised(pipe.scheduler)
        pipe.scheduler.set_timesteps(20)
        assert torch.equal(denoised(pipe.scheduler), out)
    other = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    other.set_timesteps(sigmas=sigmas[picked].numpy())
    torch.testing.assert_close(denoised(other), out)


@pytest.mark.parametrize("order", [0, 1])
def test_a_profile_picks_the_steps_that_searched_computes(order):
    pipe, given = Pipeline(Video()), {"computed_steps": 8, "order": order}
    profiles = {n: learn_profile(pipe, n, lambda: pipe(steps=30)) for n in ("fewer-steps", "searched")}
    with synccache.cached(pipe, "searched", profile=profiles["searched"], **given) as handle:
        searched = sorted(handle.method.gate.schedule)
    with synccache.cached(pipe, "fewer-steps", profile=profiles["fewer-steps"], **given) as handle:
        pipe(steps=30)
        assert [round(30 - 0.03 * r.timestep) for r in handle.trace if r.decides] == searched
        with pytest.raises(InputError, match="from a run of 30 steps, and this run has 12"):
            pipe(steps=12)


def test_steps_that_can_not_be_picked_are_refused():
    pipe = Pipeline(Video())
    with pytest.raises(InputError, match="begin with step 0"):
        synccache.apply(pipe, "fewer-steps", schedule=[1, 2])
    with synccache.cached(pipe, "fewer-steps", schedule=[0, 12]), pytest.raises(InputError, match="more than 12 steps"):
        pipe(steps=12)
    pipe.scheduler = DDIMScheduler()
    with synccache.cached(pipe, "fewer-steps", schedule=[0, 5]), pytest.raises(InputError, match="a DDIMScheduler has"):
        pipe.scheduler.set_timesteps(10)
