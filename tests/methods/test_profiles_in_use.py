"""A profile and the settings beside it: they say the same, and what doesn't fit is refused."""

from dataclasses import replace

import pytest
import torch

import synccache
from synccache import InputError
from synccache.gates import Budget
from synccache.methods import RECIPES
from synccache.planner import learn_profile
from synccache.portrait.pipeline import PortraitPipeline
from synccache.testing import Pipeline, Video

# A setting, a value to learn with, and another one.
SHAPING = [
    ("hyca", "decoupled", True, False), ("hyca", "clusters", 3, 2), ("svd-cache", "decoupled", False, True),
    ("svd-cache", "energy", 0.5, 0.85), ("magcache", "decoupled", True, False), ("schedule", "decoupled", False, True),
]  # fmt: skip


@pytest.fixture(scope="module")
def portrait():
    return PortraitPipeline.load()


@pytest.mark.parametrize(("name", "setting", "learnt", "other"), SHAPING)
def test_a_profile_is_used_as_it_was_learnt(name, setting, learnt, other):
    """Whatever the default is; who says otherwise is refused, in a composed method too."""
    pipe = Pipeline(Video())
    made = learn_profile(pipe, name, lambda: pipe(steps=12), **{setting: learnt})
    assert set(made.settings) == set(RECIPES[name].shapes) and made.settings[setting] == learnt
    composed = f"gate={name},scope={name},forecaster={name}"
    for method in (name, composed):
        with synccache.cached(pipe, method, profile=made) as handle:
            assert handle.settings[setting] == learnt
        says = rf"learnt with {setting}={learnt}, and {setting}={other} is set.*learn_profile\(.*{setting}={other!r}\)"
        with pytest.raises(InputError, match=says):
            synccache.apply(pipe, method, profile=made, **{setting: other})


@pytest.mark.parametrize("setting", [{"energy": 0.5}, {"decoupled": True}])
def test_a_shipped_profile_is_as_it_was_learnt(setting, portrait):
    with pytest.raises(InputError, match=r"The profile was learnt with .* is set"):
        synccache.apply(portrait, "svd-cache", **setting)


def test_a_list_of_blocks_takes_the_place_of_a_shipped_profile(portrait):
    with pytest.raises(InputError, match=r"learnt with share=0.6, and share=0.3 is set"):
        synccache.apply(portrait, "profilingdit", share=0.3)
    with synccache.cached(portrait, "profilingdit", share=0.3, blocks=[2, 3]) as handle:
        assert [r.members for r in handle.regions] == [(2, 3)]


@pytest.mark.parametrize("name", [n for n, r in RECIPES.items() if r.learn is not None and n != "profilingdit"])
def test_tensors_that_are_missing_or_of_another_shape_are_refused(name):
    pipe = Pipeline(Video())
    made = learn_profile(pipe, name, lambda: pipe(steps=12))
    if "profile" not in RECIPES[name].settings:
        assert set(made.tensors) == {"ends", "gamma", "errors", "mask_weight"}
        return
    for key, tensor in made.tensors.items():
        others = {n: t for n, t in made.tensors.items() if n != key} or {"other": torch.zeros(1)}
        with pytest.raises(InputError, match=rf"has no '{key}', only .*learn_profile\(pipe, '{name}'"):
            synccache.apply(pipe, name, profile=replace(made, tensors=others))
        with pytest.raises(
            InputError, match=rf"holds '{key}' of shape \[.*\]; wanted is \[.*learn_profile\(pipe, '{name}'"
        ):
            synccache.apply(pipe, name, profile=replace(made, tensors={**others, key: tensor[None]}))


def lists(pipe, method, profile, **settings):
    with synccache.cached(pipe, method, profile=profile, computed_steps=5, **settings) as handle:
        return handle.method.gate.schedule


@pytest.mark.parametrize("name", ["schedule", "searched"])
def test_a_composed_list_is_searched_for_what_predicts(name):
    """For reuse and lines; others take the list as its own method has it."""
    pipe = Pipeline(Video())
    made = learn_profile(pipe, name, lambda: pipe(steps=30))
    alone = [lists(pipe, name, made, order=order) for order in (0, 1)]
    assert alone[0] != alone[1]
    assert [lists(pipe, f"{name}+{how}", made) for how in ("interval", "linear")] == alone
    usual = lists(pipe, name, made)
    assert lists(pipe, f"{name}+foca", made) == usual
    assert lists(pipe, f"{name}+{name}", made) == usual


def test_a_number_of_steps_is_found_from_errors_of_the_same_mask_weight_only(portrait):
    """The shipped errors are with the person's tokens weighing double."""

    def errors(method, **settings):
        with synccache.cached(portrait, method, computed_steps=9, **settings) as handle:
            assert isinstance(handle.method.gate, Budget)
            return handle.method.gate.errors

    known = errors("synccache")
    assert len(known) == 40 and errors("whole-stack", mask_weight=2.0) == known
    size = portrait.transformer.config.image_size
    with synccache.cached(portrait, "synccache", computed_steps=5) as handle:
        audio = torch.zeros(1, portrait.transformer.config.frames, 5, 64)
        portrait.denoise(torch.zeros(1, 3, size, size), audio, steps=16, guidance_scale=1)
        assert handle.trace.computed() == 5
    assert errors("whole-stack") is errors("synccache", mask_weight=3.0) is None


def test_picked_steps_belong_to_the_profiled_timesteps():
    pipe = Pipeline(Video())
    made = learn_profile(pipe, "fewer-steps", lambda: pipe(steps=20))
    with synccache.cached(pipe, "fewer-steps", profile=made, computed_steps=6) as handle:
        pipe(steps=20)
        assert handle.trace.decisions() == ["computed"] * 6
    shifted = replace(made, timesteps=tuple(3 * t / (1 + 2 * t / 1000) for t in made.timesteps))
    refused = pytest.raises(
        InputError, match=r"has the timestep .*; this run's has .*learn_profile\(pipe, 'fewer-steps'"
    )
    with synccache.cached(pipe, "fewer-steps", profile=shifted, computed_steps=6), refused:
        pipe(steps=20)
