"""Where a run begins: a cancelled one leaves nothing behind, and none is taken for two."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchLCMScheduler
from loops import LATENT, WIDE, bar, noise, pipeline, prompt, sample, skipped, small, under
from models import wan

import synccache
from synccache import Method, Notice
from synccache.forecasters import Reuse
from synccache.gates import Listed
from synccache.scopes import WholeModel

METHODS = [
    ("interval", {}),
    ("synccache", {}),
    ("easycache", {"threshold": 0.3, "warmup": 3}),
    ("taylorseer-lite", {}),
    (Method(Listed(frozenset({0})), WholeModel(), Reuse()), {}),
]


def later(seed, strength=0.5, stop=None, **given):
    """A run that begins with other noise, at ``strength`` of the schedule's 20 steps."""
    first = 20 - round(20 * strength)
    return lambda model: sample(model, [prompt(seed + 100)], noise(seed, *LATENT), first=first, stop=stop, **given)


@pytest.mark.parametrize("target", ["transformer", "pipeline"])
@pytest.mark.parametrize(("method", "settings"), METHODS)
@pytest.mark.parametrize("stop", [1, 2, 9])
def test_a_cancelled_run_leaves_nothing_to_one_that_begins_lower(target, method, settings, stop):
    pipe = pipeline(small())
    attached = pipe if target == "pipeline" else pipe.transformer
    run = later(2, scheduler=pipe.scheduler)
    settings = {**settings, "steps": 20} if target == "transformer" and isinstance(method, str) else settings
    alone = under(attached, method, lambda: run(pipe.transformer), **settings)
    with synccache.cached(attached, method, **settings) as handle:
        later(1, strength=1.0, stop=stop, scheduler=pipe.scheduler)(pipe.transformer)
        assert torch.equal(run(pipe.transformer), alone)
        assert [(r.run, r.step) for r in handle.trace][stop - 1 : stop + 1] == [(0, stop - 1), (1, 0)]


def edited(seed, scheduler, first, stop=None, image=7, text=1, shape=WIDE):
    """Video to video: the same image and prompt, under noise of its own."""
    scheduler.set_timesteps(20)
    sigma = scheduler.sigmas[first]
    start = (1 - sigma) * noise(image, *shape) + sigma * noise(seed, *shape)
    return lambda model: sample(model, [text], start, scheduler=scheduler, steps=None, first=first, stop=stop)


@pytest.mark.parametrize("method", ["interval", "synccache", "taylorseer-lite"])
@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("first", [4, 8, 11, 13])
def test_video_to_video_once_more_with_another_seed(method, shift, first):
    """Latents, prompt and timesteps go on as if nothing had been, but for the noise."""
    model, scheduler, text = small(), FlowMatchEulerDiscreteScheduler(shift=shift), prompt(1)
    second = edited(2, scheduler, first + 4, text=text)
    alone = under(model, method, lambda: second(model), steps=20)
    with synccache.cached(model, method, steps=20) as handle:
        edited(1, scheduler, first, stop=first + 4, text=text)(model)
        assert torch.equal(second(model), alone)
        assert [(r.run, r.step) for r in handle.trace][3:5] == [(0, 3), (1, 0)]


def test_image_to_video_with_the_same_picture_in_channels_of_its_own():
    """Five of nine channels never move and say nothing of where the others come from."""
    model, picture = wan.build_image(), 8 * noise(3, 1, 5, *LATENT[2:])
    given = {k: v for k, v in wan.image(1).items() if k.startswith("encoder")}
    passes = [{**given, "see": lambda x: torch.cat([x, picture], dim=1)}]
    run = lambda seed, first, stop: sample(model, passes, noise(seed, *LATENT), first=first, stop=stop)  # noqa: E731
    alone = under(model, "interval", lambda: run(2, 9, None), steps=20)
    with synccache.cached(model, "interval", steps=20) as handle:
        run(1, 0, 9)
        assert torch.equal(run(2, 9, None), alone) and len(handle.trace.runs) == 2


def test_a_second_pipeline_with_a_scheduler_of_its_own_on_the_same_transformer():
    """The first pipeline's scheduler says nothing of it, whether it was set anew or stands where it was left."""
    first, second = pipeline(small()), FlowMatchEulerDiscreteScheduler(shift=3.0)
    run = later(2, scheduler=second)
    alone = under(first, "interval", lambda: run(first.transformer), steps=20)
    with synccache.cached(first, "interval", steps=20) as handle:
        later(1, strength=1.0, stop=9, scheduler=first.scheduler)(first.transformer)
        assert torch.equal(run(first.transformer), alone)
        later(3, strength=1.0, stop=9, scheduler=first.scheduler)(first.transformer)
        assert torch.equal(run(first.transformer), alone)
        assert len(handle.trace.runs) == 4


def test_a_second_half_in_a_call_of_its_own_is_a_run():
    """The latent and its timesteps go on; but the scheduler was set anew, as a pipeline does when it is called."""
    pipe, texts = pipeline(small()), [prompt(1)]
    run = lambda x, first, stop: sample(  # noqa: E731
        pipe.transformer, texts, x, scheduler=pipe.scheduler, first=first, stop=stop
    )
    with synccache.cached(pipe, "interval") as handle:
        half = run(noise(1, *LATENT), 0, 9)
        again = run(half, 9, None)
        assert bar(handle, 0) == "##..#..#." and bar(handle) == "#..#..#..##"
    assert torch.equal(under(pipe, "interval", lambda: run(half, 9, None)), again)


def test_a_run_that_broke_off_in_the_model_leaves_nothing():
    model, run, held = small(), later(2), [prompt(1)]  # which the caller goes on holding
    alone = under(model, "interval", lambda: run(model), steps=20)
    with synccache.cached(model, "interval", steps=20) as handle:
        for stop in (2, 5):
            hook = model.norm_out.register_forward_pre_hook(_fail_at(stop))
            with pytest.raises(KeyboardInterrupt):
                sample(model, held, noise(1, *LATENT))
            hook.remove()
            assert handle.bytes == 0
            assert torch.equal(run(model), alone)


def _fail_at(stop):
    left = [stop]

    def fail(*_):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt

    return fail


def test_a_run_that_is_told_is_believed():
    """The same latent, the next timestep: nothing shows that another run begins here, or that one goes on."""
    model, texts = small(), [prompt(1)]
    with synccache.cached(model, "interval", steps=20) as handle:
        run = lambda step: handle.at(run=min(step // 9, 1), step=step - 9 * (step >= 9))  # noqa: E731
        sample(model, texts, noise(1, *LATENT), around=lambda step, _: run(step))
        assert [r.step for r in handle.trace] == [*range(9), *range(11)]
        assert bar(handle, 0) == "##..#..#." and bar(handle) == "##..#..#..#"


def test_re_noising_within_one_run_that_is_told():
    """A sampler that goes back to a higher timestep on purpose."""
    model, texts, scheduler = small(), [prompt(1)], FlowMatchEulerDiscreteScheduler()
    with synccache.cached(model, "interval", steps=20) as handle, handle.same_run():
        x = sample(model, texts, noise(1, *LATENT), scheduler=scheduler, stop=8)
        x = scheduler.scale_noise(x, scheduler.timesteps[4:5], noise(9, *LATENT))
        sample(model, texts, x, scheduler=scheduler, steps=None, first=4, stop=16)
        assert len(handle.trace.runs) == 1 and bar(handle) == "##..#..#..#..#..#..#"


@pytest.mark.parametrize(
    "make", [FlowMatchLCMScheduler, lambda: FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)]
)
def test_samplers_that_draw_new_noise_at_every_step_run_once_under_their_pipeline(make):
    """Early latents share nothing with those of the step before: these are computed, and the count of steps stays."""
    pipe = pipeline(small(), make())
    with synccache.cached(pipe, "interval") as handle:
        sample(pipe.transformer, [prompt(1)], noise(1, *WIDE), scheduler=pipe.scheduler)
        assert len(handle.trace.runs) == 1 and len(handle.trace) == 20
        assert handle.trace.skipped() > 5 and handle.trace.records[-1].reason == "last"


def test_two_generations_in_turns_are_told_by_request_or_computed():
    model = small()
    alone = [under(model, "interval", lambda s=s: later(s, strength=1.0)(model), steps=20) for s in (1, 2)]
    plain = [later(s, strength=1.0)(model) for s in (1, 2)]

    def in_turns(context):
        states = {seed: noise(seed, *LATENT) for seed in (1, 2)}
        scheduler = FlowMatchEulerDiscreteScheduler()
        scheduler.set_timesteps(20)
        for step, t in enumerate(scheduler.timesteps):
            for seed, x in states.items():
                with context(seed), torch.no_grad():
                    v = model(x, t[None], prompts[seed], return_dict=False)[0]
                states[seed] = x + (scheduler.sigmas[step + 1] - scheduler.sigmas[step]) * v
        return list(states.values())

    prompts = {seed: prompt(seed + 100)["encoder_hidden_states"] for seed in (1, 2)}
    with synccache.cached(model, "interval", steps=20) as handle:
        told = in_turns(lambda seed: handle.at(request=seed))
        assert all(torch.equal(a, b) for a, b in zip(told, alone, strict=True)) and skipped(handle) == 24
    with synccache.cached(model, "interval", steps=20) as handle:
        with pytest.warns(Notice, match=r"handle\.request\(\.\.\.\) for generations"):
            untold = in_turns(lambda seed: torch.no_grad())
        assert all(torch.equal(a, b) for a, b in zip(untold, plain, strict=True)) and skipped(handle) == 0
