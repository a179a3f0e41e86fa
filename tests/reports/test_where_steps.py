"""Which step a call belongs to: schedules that fall, rise, go back and forth, repeat; timesteps by frame and token."""

import diffusers
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, Lumina2Pipeline, Lumina2Transformer2DModel
from loops import LATENT, bar, noise, pipeline, prompt, sample, skipped, small
from models import Noise, image, ltx, seeded, wan

import synccache

# Whose timesteps are what the model is called with, one call a step.
ONE_CALL = {
    "euler, flow": lambda: FlowMatchEulerDiscreteScheduler(shift=5.0),
    "unipc, flow": lambda: diffusers.UniPCMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
    ),
    "ddim": lambda: diffusers.DDIMScheduler(prediction_type="v_prediction"),
    "ddim, inverse": diffusers.DDIMInverseScheduler,
    "dpm++, inverse": diffusers.DPMSolverMultistepInverseScheduler,
    "dpm++ sde": lambda: diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"),
    "dpm, single step": lambda: diffusers.DPMSolverSinglestepScheduler(lower_order_final=True),
    "euler, ancestral": diffusers.EulerAncestralDiscreteScheduler,
    "lcm": diffusers.LCMScheduler,
    "tcd": diffusers.TCDScheduler,
    "sa": diffusers.SASolverScheduler,
    "edm": diffusers.EDMEulerScheduler,
}
# Two calls a step: at timesteps of their own, which come in any order, or at the next step's.
TWO_CALLS = {
    "heun": diffusers.HeunDiscreteScheduler,
    "heun, flow": diffusers.FlowMatchHeunDiscreteScheduler,
    "kdpm2": diffusers.KDPM2DiscreteScheduler,
    "kdpm2, ancestral": diffusers.KDPM2AncestralDiscreteScheduler,
    "kdpm2, ancestral, karras": lambda: diffusers.KDPM2AncestralDiscreteScheduler(use_karras_sigmas=True),
    "pndm": diffusers.PNDMScheduler,
}
numpy = pytest.mark.filterwarnings("ignore:__array")  # diffusers' use of numpy 1


def run(attached, model, scheduler, method="interval", **settings):
    """(handle, number of calls that the schedule asks for)."""
    scheduler.set_timesteps(20)
    with synccache.cached(attached, method, **settings) as handle:
        start = noise(1, *LATENT) * getattr(scheduler, "init_noise_sigma", 1.0)
        sample(model, [prompt(1), prompt(2)], start, scheduler=scheduler, steps=None)
    return handle, len(scheduler.timesteps)


@numpy
@pytest.mark.parametrize("name", ONE_CALL)
def test_each_timestep_of_a_schedule_is_a_step(name):
    pipe = pipeline(small(), ONE_CALL[name]())
    handle, calls = run(pipe, pipe.transformer, pipe.scheduler)
    assert calls == 20 and bar(handle) == "##..#..#..#..#..#..#"
    assert [(r.run, r.step, r.evaluation, r.branch) for r in handle.trace] == [
        (0, step, 0, branch) for step in range(20) for branch in (0, 1)
    ]


@numpy
@pytest.mark.parametrize("name", ONE_CALL)
def test_the_same_without_a_scheduler_to_ask(name):
    model = small()
    handle, _ = run(model, model, ONE_CALL[name](), steps=20)
    assert len(handle.trace.runs) == 1 and bar(handle) == "##..#..#..#..#..#..#"


@numpy
@pytest.mark.parametrize("name", TWO_CALLS)
def test_schedules_with_two_calls_a_step_are_one_run_and_its_last_step_is_computed(name):
    pipe = pipeline(small(), TWO_CALLS[name]())
    handle, calls = run(pipe, pipe.transformer, pipe.scheduler)
    records = handle.trace.of_run()
    assert len(handle.trace.runs) == 1 and len(records) == len(handle.trace) == 2 * calls
    steps = [(r.step, r.evaluation) for r in records if r.decides]
    assert len(set(steps)) == calls and steps == sorted(steps)
    last = [r for r in records if r.step == records[-1].step]
    assert {r.decision for r in last} == {"computed"} and "last" in {r.reason for r in last}
    assert handle.trace.skipped() > calls // 3
    assert handle.bytes == 0
    if name.startswith("heun"):
        assert records[-1].step == 19 and sum(r.evaluation for r in records if r.decides) == 19


@pytest.mark.parametrize("shift", [5.0, 12.0])
@pytest.mark.parametrize("steps", [50, 100])
@pytest.mark.parametrize("target", ["transformer", "pipeline"])
def test_timesteps_that_repeat_because_they_were_rounded_are_steps_all_the_same(target, steps, shift):
    """In bfloat16 there are four between 512 and 1024 less one: up to a third of the steps have the one before's."""
    pipe = pipeline(small(2), FlowMatchEulerDiscreteScheduler(shift=shift))
    attached, given = (pipe, {}) if target == "pipeline" else (pipe.transformer, {"steps": steps})
    with synccache.cached(attached, "interval", interval=7, **given) as handle:
        sample(
            pipe.transformer, [prompt(1)], noise(1, *LATENT), scheduler=pipe.scheduler, steps=steps,
            time=lambda t: t.to(torch.bfloat16)[None],
        )  # fmt: skip
        repeated = len(handle.trace) - len({r.timestep for r in handle.trace})
        assert repeated > 0 or (steps, shift) == (50, 5.0)
        assert [(r.run, r.step, r.evaluation) for r in handle.trace] == [(0, step, 0) for step in range(steps)]
        assert handle.trace.records[-1].reason == "last"


# One timestep for each of three frames, or for each token; ``share`` of the noise is left.
BY_FRAME = {
    "clean frame first": lambda share: [0.0, share, share],
    "clean frame first, rising": lambda share: [1000.0, 1000 - share, 1000 - share],
    "frame that stays noise": lambda share: [share, share, 1000.0],
    "frame after frame": lambda share: [max(0.0, min(1000.0, share * 2 - 1000 + 500 * n)) for n in range(3)],
    "frame after frame, rising": lambda share: [min(1000.0, max(0.0, 2000 - share * 2 - 500 * n)) for n in range(3)],
    "reference rows at both ends": lambda share: [0.0, share, 1000.0],
}


@pytest.mark.parametrize("name", BY_FRAME)
def test_a_timestep_for_each_frame(name):
    model, given = wan.build_skyreels(), {**prompt(1), "enable_diffusion_forcing": True}
    with synccache.cached(model, "interval", steps=20) as handle:
        for seed in (1, 1, 2):  # once more with the same noise: nothing but time turns back
            sample(model, [given], noise(seed, *LATENT), time=lambda t: torch.tensor([BY_FRAME[name](float(t))]))
        assert [(r.run, r.step, r.evaluation) for r in handle.trace] == [(n, i, 0) for n in range(3) for i in range(20)]
        assert bar(handle, 0) == bar(handle, 1) == "##..#..#..#..#..#..#"


def test_a_timestep_for_each_token():
    model, given = ltx.build(), ltx.inputs(1)
    time = lambda t: torch.cat([torch.zeros(12), t.expand(12)])[None]  # noqa: E731
    with synccache.cached(model, "synccache", threshold=0.05, steps=20) as handle:
        sample(model, [given], given["hidden_states"], time=time)
        assert len(handle.trace.runs) == 1 and handle.trace.records[-1].step == 19 and handle.trace.skipped() > 5


def test_a_timestep_for_each_of_two_pictures_that_rises():
    model, given = image.build_z_image(), image.z_image(1)
    with synccache.cached(model, "interval", steps=20) as handle, torch.no_grad():
        for _ in range(2):
            x = given["x"]
            for share in torch.linspace(0.05, 1, 20):
                out = model(**{**given, "x": x, "t": share.repeat(2)})[0]
                x = [a + 0.05 * b for a, b in zip(x, out, strict=True)]
        assert bar(handle, 0) == bar(handle) == "##..#..#..#..#..#..#" and len(handle.trace.runs) == 2


def lumina() -> Lumina2Pipeline:
    """Its transformer is found by structure, and called with one minus the scheduler's sigma."""
    sizes = {
        "sample_size": 8, "patch_size": 2, "in_channels": 4, "hidden_size": 24, "num_layers": 6,
        "num_refiner_layers": 1, "num_attention_heads": 3, "num_kv_heads": 1, "multiple_of": 4,
        "axes_dim_rope": (4, 2, 2), "axes_lens": (64, 16, 16), "cap_feat_dim": 8,
    }  # fmt: skip
    model = seeded(lambda: Lumina2Transformer2DModel(**sizes))
    parts = dict.fromkeys(("vae", "text_encoder", "tokenizer"))
    pipe = Lumina2Pipeline(transformer=model, scheduler=FlowMatchEulerDiscreteScheduler(), **parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe, seed=1, steps=20, **given):
    known = Noise(seed)
    embeds = {"prompt_embeds": known(1, 6, 8), "negative_prompt_embeds": known(1, 6, 8)}
    masks = dict.fromkeys(("prompt_attention_mask", "negative_prompt_attention_mask"), torch.ones(1, 6).long())
    how = {"height": 64, "width": 64, "num_inference_steps": steps, "output_type": "latent"}
    return pipe(**embeds, **masks, **how, generator=torch.Generator().manual_seed(seed), **given).images


@pytest.mark.filterwarnings("ignore:Some repeated blocks")
@pytest.mark.parametrize("method", ["interval", "synccache", "taylorseer", "uncond-reuse"])
def test_lumina_counts_up_under_its_own_pipeline(method):
    pipe = lumina()
    with synccache.cached(pipe, method) as handle:
        pictures = [draw(pipe, seed) for seed in (1, 2)]
        calls = handle.trace.of_run(0)
        times = [r.timestep for r in calls]
        assert times == sorted(times) and times[0] < 0.1 < times[-1] <= 1
        assert len(handle.trace.runs) == 2 and [r.step for r in calls if r.decides] == list(range(calls[-1].step + 1))
        assert calls[-1].step >= 18 and skipped(handle) > 20
        assert handle.trace.decisions(0)[-1] == "computed" or method == "taylorseer"
    with synccache.cached(pipe, method):
        with pytest.raises(KeyboardInterrupt):
            draw(pipe, 3, callback_on_step_end=_interrupt)
        assert torch.equal(draw(pipe, 2), pictures[1])


def _interrupt(pipe, step, timestep, given):
    if step == 7:
        raise KeyboardInterrupt
    return given
