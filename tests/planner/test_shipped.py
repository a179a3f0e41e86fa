"""Profiles of the portrait model: what learns on it, and what the package has of the packaged one."""

from pathlib import Path

import pytest
import torch

import synccache
from synccache import InputError, anatomies
from synccache.methods import RECIPES
from synccache.planner import learn_profile
from synccache.portrait.pipeline import PortraitPipeline
from synccache.portrait.transformer import PortraitConfig, PortraitTransformer
from synccache.profiles import Profile, profile_name, weights_of

ASSETS = Path(synccache.__file__).parent / "portrait" / "assets"
LEARNERS = [name for name, recipe in RECIPES.items() if recipe.learn is not None]


@pytest.fixture(scope="module")
def portrait():
    return PortraitPipeline.load()


def small_portrait():
    torch.manual_seed(0)
    config = PortraitConfig(image_size=32, dim=24, ffn_dim=24, heads=2, layers=4, inject_after=(0, 1, 3), frames=2)
    return PortraitPipeline(PortraitTransformer(config))


@pytest.mark.parametrize("method", LEARNERS)
def test_every_learner_keeps_the_steps_of_its_run(method):
    pipe = small_portrait()
    reference, audio = torch.zeros(1, 3, 32, 32), torch.randn(1, 2, 5, 64)
    mask = torch.ones(32, 1) * (torch.arange(32) < 16)
    made = learn_profile(pipe, method, lambda: pipe.denoise(reference, audio, steps=6), mask=mask)
    assert made.steps == 6 and made.timesteps == tuple(pipe.scheduler.timesteps.tolist())
    assert made.weights == weights_of(pipe.transformer.blocks)


@pytest.mark.parametrize("method", [name for name in LEARNERS if (ASSETS / profile_name(name)).is_file()])
def test_every_shipped_profile_fits_the_packaged_model(method, portrait):
    shipped = Profile.load(ASSETS / profile_name(method), method)
    scheduler = type(portrait.scheduler).__name__
    assert shipped.steps == 40 and shipped.fits(anatomies.find(portrait.transformer), scheduler)
    with synccache.cached(portrait, method) as handle:
        by_itself = handle.method
    with synccache.cached(portrait, method, profile=shipped) as handle:
        assert str(handle.method) == str(by_itself)


@pytest.mark.parametrize("method", RECIPES)
def test_every_method_takes_the_packaged_model_with_nothing_but_its_name(method, portrait):
    reference, audio = torch.zeros(1, 3, *[portrait.transformer.config.image_size] * 2), torch.zeros(1, 1, 5, 64)
    with synccache.cached(portrait, method) as handle:
        assert handle.method.name == method
        scale = 1.0 if handle.method.guidance is None else 3.0  # one branch is enough where no other is filled in
        assert torch.isfinite(portrait.denoise(reference, audio, guidance_scale=scale)).all()
        assert (handle.trace.skipped() > 0) == (RECIPES[method].paper != "control")


def test_shipped_profiles_are_for_the_weights_that_they_were_learnt_on(portrait):
    shipped = Profile.load(ASSETS / profile_name("l2p"))
    trained = PortraitTransformer(portrait.transformer.config)
    trained.load_state_dict(portrait.transformer.state_dict())
    anatomy = anatomies.find(trained)
    assert shipped.fits(anatomy) and shipped.fits(anatomies.find(trained.bfloat16()))
    with torch.no_grad():
        trained.blocks[9].ffn.net[2].weight.mul_(1.1)
    assert not shipped.fits(anatomy)
    with pytest.raises(InputError, match=r"'l2p' needs profile=.*learn_profile\(pipe, 'l2p'"):
        synccache.apply(trained, "l2p")
    shipped.check(anatomy, "l2p")  # who gives it himself may use it
    assert weights_of([torch.nn.Linear(2, 2, device="meta")]) is None
