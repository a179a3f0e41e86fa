"""Windows of a longer video and tiles of a picture: several latents at one timestep, told apart or computed."""

from contextlib import nullcontext

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from loops import bar, call, noise, pipeline, prompt, skipped, small
from models import wan

import synccache
from synccache import Notice

STEPS, SIZE, LONG = 12, 4, (1, 4, 8, 6, 6)
NOTICE = r"several times at one step with latents of their own.*with handle\.at\(window=\.\.\.\)"
METHODS = {
    "interval": {},
    "synccache": {"threshold": 0.1},
    "taylorseer-lite": {},
    "fora": {},
    "easycache": {"threshold": 0.3, "warmup": 3},
    "teacache": {"threshold": 0.5},
    "synccache-cfg": {"threshold": 0.1},
}


@torch.no_grad()
def denoise(model, long, texts, starts, at=lambda step, start: nullcontext(), scheduler=None, first=0):
    """The mean of what the windows that begin at ``starts`` (or at ``starts(step)``) say, each with all ``texts``."""
    scheduler = scheduler or FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(STEPS)
    for step, t in enumerate(scheduler.timesteps[first:]):
        said, count = torch.zeros_like(long), torch.zeros_like(long)
        for start in starts(step) if callable(starts) else starts:
            part = (slice(None), slice(None), slice(start, start + SIZE))
            with at(step, start):
                out = [model(long[part], t[None], **text, return_dict=False)[0] for text in texts]
            said[part] += out[0] + sum(1.5 * (out[0] - other) for other in out[1:])
            count[part] += 1
        long = scheduler.step(said / count.clamp(min=1), t, long, return_dict=False)[0]
    return long


@pytest.mark.parametrize(("method", "passes"), [*((name, 2) for name in METHODS), ("synccache", 1)])
def test_told_windows_give_what_each_gives_alone(method, passes):
    model, texts, long = small(), [prompt(n) for n in range(1, 1 + passes)], noise(1, *LONG)
    alone = []
    for start in (0, 4):
        with synccache.cached(model, method, steps=STEPS, **METHODS[method]):
            alone.append(denoise(model, long[:, :, start : start + 4], texts, (0,)))
    with synccache.cached(model, method, steps=STEPS, **METHODS[method]) as handle:
        together = denoise(model, long, texts, (0, 4), lambda step, start: handle.at(window=start))
        assert torch.equal(together, torch.cat(alone, dim=2))
        assert {(r.window, r.step, r.evaluation) for r in handle.trace} == {
            (start, step, 0) for start in (0, 4) for step in range(STEPS)
        }
        assert skipped(handle) > 0 and handle.bytes == 0


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("method", ["interval", "synccache-cfg", "easycache"])
def test_windows_that_nobody_told_are_computed_and_said_once(method, passes):
    model, texts, long = small(), [prompt(n) for n in range(1, 1 + passes)], noise(1, *LONG)
    plain = denoise(model, long, texts, (0, 2, 4))
    with synccache.cached(model, method, steps=STEPS, **METHODS[method]) as handle:
        with pytest.warns(Notice, match=NOTICE) as said:
            first = denoise(model, long, texts, (0, 2, 4))
        again = denoise(model, long, texts, (0, 2, 4))
        assert len(said) == 1 and skipped(handle) == 0 and handle.bytes == 0
        assert torch.equal(first, plain) and torch.equal(again, plain)
        assert len(handle.trace.runs) == 2


# Which windows there are at a step.
MOVING = {
    "moving, two a step": lambda step: (step % 3, step % 3 + 4 - step % 3),
    "another one first at each step": lambda step: (0, 4) if step % 2 else (4, 0),
    "from the fifth step on": lambda step: (0, 4) if step > 3 else (0,),
}


@pytest.mark.parametrize("name", MOVING)
@pytest.mark.parametrize("target", ["transformer", "pipeline"])
def test_windows_that_move_or_begin_late_are_never_filled_from_one_another(name, target):
    pipe, texts, long = pipeline(small()), [prompt(1)], noise(1, *LONG)
    attached = pipe if target == "pipeline" else pipe.transformer
    plain = denoise(pipe.transformer, long, texts, MOVING[name])
    with synccache.cached(attached, "interval", steps=STEPS) as handle, pytest.warns(Notice, match=NOTICE):
        found = denoise(pipe.transformer, long, texts, MOVING[name], scheduler=pipe.scheduler)
    late = [r for r in handle.trace if r.step > 4]
    assert all(r.decision == "computed" for r in late)
    assert torch.equal(found, plain) or name == "from the fifth step on"


def test_one_window_a_step_of_those_in_turn_is_computed_and_said():
    """Each is as far from the one before as another generation."""
    model, long = small(), noise(1, *LONG)
    starts = lambda step: (4 * (step % 2),)  # noqa: E731
    plain = denoise(model, long, [prompt(1)], starts)
    with synccache.cached(model, "interval", steps=STEPS), pytest.warns(Notice, match="start of a run of its own"):
        assert torch.equal(denoise(model, long, [prompt(1)], starts), plain)
    with synccache.cached(model, "interval", steps=STEPS) as handle:
        denoise(model, long, [prompt(1)], starts, lambda step, start: handle.at(window=start, step=step))
        assert len(handle.trace.runs) == 1 and skipped(handle) == 5


@pytest.mark.parametrize("first", [3, 6, 8])
def test_windows_of_a_still_scene_in_video_to_video(first):
    """All windows show the same picture under a little noise of their own: none is another's second evaluation."""
    scheduler, model = FlowMatchEulerDiscreteScheduler(), small()
    scheduler.set_timesteps(STEPS)
    sigma, still = scheduler.sigmas[first], noise(3, 1, 4, 1, 6, 6).expand(LONG)
    long = (1 - sigma) * still + sigma * noise(1, *LONG)
    plain = denoise(model, long, [prompt(1)], (0, 2, 4), first=first)
    with synccache.cached(model, "interval", steps=STEPS) as handle, pytest.warns(Notice, match=NOTICE):
        assert torch.equal(denoise(model, long, [prompt(1)], (0, 2, 4), first=first), plain)
    assert skipped(handle) == 0


def test_windows_with_a_timestep_for_each_frame():
    """Where rows move on by themselves, nothing tells how far the latent may have moved."""
    model, long, given = wan.build_skyreels(), noise(1, *LONG), {**prompt(1), "enable_diffusion_forcing": True}
    with (
        synccache.cached(model, "interval", steps=STEPS) as handle,
        pytest.warns(Notice, match=NOTICE),
        torch.no_grad(),
    ):
        for step in range(6):
            time = torch.tensor([[0.0, *[900.0 - 50 * step] * 3]])
            for start in (0, 4):
                part = long[:, :, start : start + SIZE] * (1 - 0.01 * step)
                call(model, part, time, {**given, "return_dict": False}, "hidden_states", "timestep")
    assert skipped(handle) == 0 and len(handle.trace.runs) == 1


def test_tiles_of_a_picture_told_with_everything_else():
    """Nested: the step around, the tile and the pass inside."""
    model, long, texts = small(), noise(1, *LONG), [prompt(1), prompt(2)]
    plain = denoise(model, long, texts, (0, 2, 4))
    with synccache.cached(model, "interval") as handle:
        around = lambda step, start: handle.at(step=step, total=STEPS, window=("tile", start), request="mine")  # noqa: E731
        found = denoise(model, long, texts, (0, 2, 4), around)
        assert bar(handle) == "#..#..#..#.#" and handle.trace.runs == [("mine", 0)]
        assert 0 < float((found - plain).norm() / plain.norm()) < 0.1
