"""A profile and a run of another number of steps: rescaled, or refused in words; never used as if nothing were."""

import pytest
import torch

import synccache
from synccache import InputError, Notice
from synccache.methods import RECIPES
from synccache.planner import learn_profile
from synccache.portrait.pipeline import PortraitPipeline
from synccache.portrait.transformer import PortraitConfig, PortraitTransformer
from synccache.testing import Pipeline, Video

LEARNT = 12
REFUSE = ("fewer-steps", "l2p", "schedule", "searched")
# By what its profile holds: ratios and errors of each step are rescaled, the rest doesn't depend on their number.
RESCALE = ("magcache", "synccache", "synccache-linear", "synccache-cfg", "asymmetric", "whole-stack")
SERVE = ("hyca", "profilingdit", "svd-cache", "teacache")


@pytest.fixture(scope="module")
def pipe():
    return Pipeline(Video())


@pytest.fixture(scope="module")
def profiles(pipe):
    wanted = [n for n in (*REFUSE, *RESCALE, *SERVE) if n != "profilingdit"]
    return {name: learn_profile(pipe, name, lambda: pipe(steps=LEARNT)) for name in wanted}


def test_every_method_that_learns_is_here():
    assert sorted((*REFUSE, *RESCALE, *SERVE)) == [n for n, r in RECIPES.items() if r.learn is not None]


@pytest.mark.parametrize("steps", [9, 20])
@pytest.mark.parametrize("name", REFUSE)
def test_lists_and_rows_are_refused_as_the_run_starts(pipe, profiles, name, steps):
    given = {} if name == "l2p" else {"computed_steps": 5}
    with synccache.cached(pipe, name, profile=profiles[name], **given) as handle:
        with pytest.raises(InputError, match=rf"a run of 12 steps|runs of 12 steps, and this run has {steps}"):
            pipe(steps=steps)
        assert len(handle.trace) == 0
        for _ in range(2):
            pipe(steps=LEARNT)  # in the first run what lies between the blocks is found
        assert handle.trace.computed() == (5 if given else len(handle.method.gate.schedule))


@pytest.mark.parametrize("name", ["l2p", "schedule", "searched"])
def test_a_run_of_unknown_length_is_refused(pipe, profiles, name):
    """A bare transformer has no scheduler that tells; steps= does."""
    model, x = pipe.transformer, torch.randn(1, 4, 2, 4, 4)
    refused = pytest.raises(InputError, match=r"nobody tells how long this run is.*steps= tells")
    with torch.no_grad(), synccache.cached(model, name, profile=profiles[name]), refused:
        model(x, torch.tensor([1000.0]), torch.ones(1, 8))
    with torch.no_grad(), synccache.cached(model, name, profile=profiles[name], steps=LEARNT):
        model(x, torch.tensor([1000.0]), torch.ones(1, 8))


@pytest.mark.parametrize("how", ["gate=interval,scope=l2p,forecaster=l2p", "gate=easycache,scope=l2p,forecaster=l2p"])
def test_rows_beside_another_gate_are_refused_when_they_are_asked(pipe, profiles, how):
    refused = pytest.raises(InputError, match=r"The learned rows are for runs of 12 steps, and step .* of 20 was asked")
    with synccache.cached(pipe, how, profile=profiles["l2p"]), refused:
        pipe(steps=20)


@pytest.mark.parametrize("steps", [9, LEARNT, 30])
@pytest.mark.parametrize("name", [n for n in RESCALE if n != "magcache"])
def test_errors_are_stretched_so_that_the_number_of_steps_holds(pipe, profiles, name, steps):
    given = {"mask_weight": 2.0} if name == "whole-stack" else {}
    profile = profiles["synccache" if name == "whole-stack" else name]
    with synccache.cached(pipe, name, profile=profile, computed_steps=6, **given) as handle:
        assert len(handle.method.gate.errors) == LEARNT
        pipe(steps=steps)
        assert handle.trace.computed() == 6


def test_magnitudes_are_the_nearest_ones(pipe, profiles):
    with synccache.cached(pipe, "magcache", profile=profiles["magcache"], threshold=1e9) as handle:
        for steps in (9, LEARNT, 30):
            pipe(steps=steps)
            assert handle.trace.skipped() > 0


def test_magnitudes_of_a_run_of_unknown_length_are_those_of_the_timesteps(pipe, profiles):
    model, x = pipe.transformer, torch.randn(1, 4, 2, 4, 4)
    for given, says in (({"profile": profiles["magcache"]}, "this run's has 990"), ({"ratios": "wan2.1-t2v-14b"}, "")):
        with torch.no_grad(), synccache.cached(model, "magcache", **given):
            with pytest.warns(Notice, match=r"nobody tells how many steps.*steps="):
                model(x, torch.tensor([1000.0]), torch.ones(1, 8))
            if says:
                with pytest.raises(InputError, match=says):
                    model(0.99 * x, torch.tensor([990.0]), torch.ones(1, 8))


@pytest.mark.parametrize("name", [n for n in SERVE if n != "profilingdit"])
def test_what_does_not_depend_on_the_number_of_steps_serves_any(pipe, profiles, name):
    with synccache.cached(pipe, name, profile=profiles[name]) as handle:
        for steps in (9, 30):
            pipe(steps=steps)
            assert len(handle.trace.steps()) == steps


def test_background_blocks_serve_any_number_of_steps():
    torch.manual_seed(0)
    model = PortraitTransformer(PortraitConfig(image_size=32, dim=24, ffn_dim=24, heads=2, layers=5, frames=2))
    pipe, reference, audio = PortraitPipeline(model), torch.zeros(1, 3, 32, 32), torch.randn(1, 2, 5, 64)

    def run(steps):
        return pipe.denoise(reference, audio, steps=steps, guidance_scale=1)

    made = learn_profile(pipe, "profilingdit", lambda: run(4), mask=torch.ones(32, 1) * (torch.arange(32) < 16))
    with synccache.cached(pipe, "profilingdit", profile=made) as handle:
        run(20)
        assert handle.trace.skipped() > 0
