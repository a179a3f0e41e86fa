"""What is stored, and when it goes: with the last step, a request, an interruption; and how little a gate keeps."""

import gc
import weakref

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline
from loops import LATENT, noise, pipeline, prompt, sample, small
from models import ltx

import synccache

PROFILED = {"hyca", "l2p", "magcache", "schedule", "searched", "svd-cache"}  # want one of this very model
OF_LARGE_MODELS = {"dbcache", "profilingdit"}
STORING = sorted(synccache.methods().keys() - PROFILED - OF_LARGE_MODELS - {"none", "fewer-steps"})


def settings(method):
    """With which it skips some steps of so small a model."""
    early = {"warmup": 3} if method == "easycache" else {}
    return {"threshold": 2.0, **early} if "threshold" in synccache.methods()[method].settings else {}


def generate(pipe, steps=20, stop=None, seed=1, passes=2, watch=None):
    """A run whose conditioning lives as long as the run, as in a pipeline's call."""
    texts = [prompt(100 * seed + number) for number in range(passes)]
    return sample(pipe.transformer, texts, noise(seed, *LATENT), scheduler=pipe.scheduler, steps=steps, stop=stop,
                  watch=watch)  # fmt: skip


@pytest.mark.parametrize("method", STORING)
def test_everything_goes_with_the_last_step_with_the_request_and_with_a_run_that_is_broken_off(method):
    passes = 2 if method in ("synccache", "synccache-cfg", "uncond-reuse") else 1
    pipe = pipeline(small())
    held = {}
    with synccache.cached(pipe, method, **settings(method)) as handle:
        generate(pipe, passes=passes, watch=lambda step, _: held.update({step: handle.bytes}))
        assert max(held.values()) > 0
        assert held[19] == 0 == handle.bytes  # here a pipeline decodes
        generate(pipe, stop=9, passes=passes)
        assert handle.bytes == 0  # the pipeline has ended, whoever ended it: nobody holds its prompt any more
        with handle.request("job"):
            generate(pipe, stop=5, passes=passes)
        assert handle.bytes == 0

        def stop_at_seven(step, _):
            if step == 7:
                raise KeyboardInterrupt

        try:
            generate(pipe, passes=passes, watch=stop_at_seven)
        except KeyboardInterrupt:
            assert handle.bytes > 0
        assert handle.bytes == 0


def wan_pipeline():
    parts = dict.fromkeys(("tokenizer", "text_encoder", "vae"))
    pipe = WanPipeline(transformer=small(), scheduler=FlowMatchEulerDiscreteScheduler(), **parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def film(pipe, on_step=None, steps=20):
    names = ("prompt_embeds", "negative_prompt_embeds")
    embeds = {name: prompt(number)["encoder_hidden_states"] for number, name in enumerate(names)}
    return pipe(
        **embeds, height=32, width=48, num_frames=9, num_inference_steps=steps, output_type="latent",
        callback_on_step_end=on_step, generator=torch.Generator().manual_seed(0),
    ).frames  # fmt: skip


@pytest.mark.parametrize("how", ["interrupted", "raises"])
@pytest.mark.parametrize("method", ["synccache", "taylorseer", "easycache"])
def test_a_diffusers_pipeline_that_is_interrupted_or_raises(method, how):
    pipe, held = wan_pipeline(), []

    def on_step(pipe, step, timestep, given):
        held.append(handle.bytes)
        if step == 6 and how == "interrupted":
            pipe._interrupt = True
        elif step == 6:
            raise RuntimeError("cancelled")
        return given

    with synccache.cached(pipe, method, **settings(method)) as handle:
        whole = film(pipe)
        assert handle.bytes == 0
        try:
            film(pipe, on_step)
        except RuntimeError as error:
            assert how == "raises" and str(error) == "cancelled"
        gc.collect()
        assert held[6] > 0 == handle.bytes and len(held) in (7, 20)
        assert torch.equal(film(pipe), whole)


@pytest.mark.filterwarnings("ignore:This run has")
@pytest.mark.parametrize("method", ["synccache-cfg", "taylorseer", "easycache", "dicache"])
def test_nothing_grows_over_sixty_steps_and_thirty_requests(method):
    pipe, held, passes = pipeline(small()), {}, 2 if method == "synccache-cfg" else 1
    with synccache.cached(pipe, method, **settings(method)) as handle:
        generate(pipe, 60, passes=passes, watch=lambda step, _: held.update({step: handle.bytes}))
        late = max(held[step] for step in range(40, 59))
        assert 0 < late <= max(held[step] for step in range(20, 40)) and held[59] == 0
        tensors = _tensors()
        for number in range(30):
            with handle.request(number):
                generate(pipe, steps=4, seed=number, passes=passes)
            with handle.at(window=number % 3):
                generate(pipe, steps=3, seed=number, passes=passes)
        assert handle.bytes == 0 and _tensors() <= tensors + 12


def _tensors():
    gc.collect()
    return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())


@pytest.mark.parametrize("method", ["interval", "synccache-cfg", "easycache", "teacache"])
def test_no_latent_output_or_prompt_of_the_caller_outlives_the_run(method):
    pipe, alive = pipeline(small()), []
    with synccache.cached(pipe, method, **settings(method)):
        texts = [prompt(1), prompt(2)]
        alive += [weakref.ref(text["encoder_hidden_states"]) for text in texts]
        x = noise(1, *LATENT)
        sample(pipe.transformer, texts, x, scheduler=pipe.scheduler, watch=lambda _, x: alive.append(weakref.ref(x)))
        del x, texts
        gc.collect()
        assert len(alive) == 22 and [ref() for ref in alive] == [None] * 22


def test_values_are_those_of_the_run_and_not_of_the_ones_before():
    """What is held at a step is as much in the third run as in the first."""
    pipe, held = pipeline(small()), {}
    with synccache.cached(pipe, "taylorseer") as handle:
        for number in range(3):
            generate(pipe, seed=number, watch=lambda step, _, n=number: held.update({(n, step): handle.bytes}))
    assert all(held[0, step] == held[1, step] == held[2, step] for step in range(20))


@pytest.mark.parametrize("frames", [2, 40])
def test_a_timestep_for_each_token_is_no_reason_to_keep_a_tensor_for_each(frames):
    """TeaCache's time embedding then has a row for each of them, six times as wide as a token."""
    model, given = ltx.build(), {**ltx.inputs(1), "num_frames": frames}
    tokens = 12 * frames
    x, clean = noise(1, 1, tokens, 4), tokens // frames
    with synccache.cached(model, "teacache", threshold=0.5, steps=8) as handle:
        with pytest.warns(synccache.Notice, match="8 or fewer"):
            rows = lambda t: torch.cat([torch.zeros(clean), t.expand(tokens - clean)])[None]  # noqa: E731
            sample(model, [given], x, steps=8, time=rows)
        whole = tokens * 6 * 16 * 4
        assert 0 < handle.trace.probe_bytes_peak <= 2 * min(whole, 128 * 6 * 16 * 4)
        assert handle.trace.probe_bytes_peak < 0.5 * whole or frames == 2


def test_what_a_timestep_for_each_token_says_is_said_by_a_few_of_them():
    """Of every eighth row the gate decides as of all."""
    model, bars = ltx.build(), []
    for frames in (5, 40):
        given, tokens = {**ltx.inputs(1), "num_frames": frames}, 12 * frames
        time = lambda t, n=tokens: torch.cat([torch.zeros(n // 5), t.expand(n - n // 5)])[None]  # noqa: E731
        with synccache.cached(model, "teacache", threshold=0.5, steps=20) as handle:
            sample(model, [given], noise(1, 1, tokens, 4), time=time)
            bars.append(handle.trace.decisions())
    assert bars[0] == bars[1] and "skipped" in bars[0]
