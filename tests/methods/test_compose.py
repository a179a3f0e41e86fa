"""Methods composed by name: each part from its recipe, with its own settings and defaults."""

import json
from types import SimpleNamespace

import pytest
import torch

import synccache
from synccache import Anatomy, InputError, forecasters, gates, scopes
from synccache.animation.request import check_settings
from synccache.core.method import Method
from synccache.methods import RECIPES, complete, find
from synccache.methods.compose import composed
from synccache.methods.names import PARTS, profiled
from synccache.methods.recipe import Recipe
from synccache.methods.settings import AXES
from synccache.planner import learn_profile
from synccache.portrait.pipeline import PortraitPipeline
from synccache.profiles import profile_name
from synccache.testing import Pipeline, Video


def test_gate_and_scope_of_the_first_and_forecaster_of_the_second():
    with synccache.cached(Video(), "synccache+hicache", threshold=0.3, sigma=0.4, cache_ratio=0.5) as handle:
        first = synccache.apply(Video(), "synccache", threshold=0.3, cache_ratio=0.5).method
        assert handle.method == Method(first.gate, first.scope, forecasters.Hermite(2, 0.4), "synccache+hicache")


def test_each_part_from_the_named_recipe_and_the_rest_from_the_gates():
    recipe = find("gate = interval, scope=whole-stack, forecaster=foca")
    method = recipe.build(complete(recipe, {"interval": 4, "heun": True, "decoupled": True, "warmup": 2, "last": 0}))
    assert method.gate == gates.Warmup(gates.Interval(4), 2)
    assert method.scope == scopes.WholeStack(absorb=False) and method.forecaster == forecasters.Foca(True)
    assert find("gate=linear,forecaster=foca").build(complete(find("linear"), {})).scope == scopes.Segments(1.0)
    assert find("gate=linear").build(complete(find("linear"), {})).forecaster == forecasters.Lagrange(1)


def part(name, settings, models, **made):
    method = Method(gates.Interval(2), scopes.WholeStack(), forecasters.Reuse())
    return Recipe(name, "", "", "", "", "", settings, lambda s: method, models)


def test_a_part_has_the_defaults_of_the_recipe_that_lends_it():
    one = part("one", {"warmup": 1, "cache_ratio": 0.1, "order": 1, "plan": None}, {"m": {"warmup": 11, "order": 11}})
    two = part("two", {"warmup": 2, "cache_ratio": 0.2, "order": 2, "sigma": 0.5}, {"m": {"order": 12}})
    recipes = {"one": one, "two": two}
    found = composed("one+two", recipes)
    assert found.settings == {"warmup": 1, "cache_ratio": 0.1, "order": 2, "sigma": 0.5, "plan": None}
    assert complete(found, {}, "m")["warmup"] == 11 and complete(found, {}, "m")["order"] == 12
    assert composed("gate=two,scope=one,forecaster=one", recipes).settings == {
        "warmup": 2, "cache_ratio": 0.1, "order": 1, "plan": None,
    }  # fmt: skip


def test_the_portrait_models_defaults_come_along():
    recipe = find("synccache-linear+hicache")
    assert complete(recipe, {}, "portrait")["threshold"] == RECIPES["synccache-linear"].models["portrait"]["threshold"]
    assert "contraction" not in complete(recipe, {}, "portrait")


def test_every_setting_is_known_to_be_about_gate_scope_or_forecaster():
    assert {s for r in RECIPES.values() for s in r.settings} <= set(AXES)
    assert {p for parts in AXES.values() for p in parts} == set(PARTS)


def test_guidance_goes_with_the_gate():
    assert find("synccache-cfg+hicache").build(complete(find("synccache-cfg+hicache"), {})).guidance is not None
    assert find("synccache+synccache-cfg").build(complete(find("synccache"), {})).guidance is None


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("synccache+", {}, "must name two methods"),
        ("synccache+hicache+foca", {}, "must name two methods"),
        ("synccache+hicash", {}, "'hicash' is not a method. Did you mean 'hicache'"),
        ("scope=synccache", {}, "has no gate. Start with gate=NAME"),
        ("gate=synccache,where=linear", {}, "'where' is not a part of the method"),
        ("gate=synccache,gate=linear", {}, "each part is given once, as in gate=synccache"),
        ("gate=synccache,scope=", {}, "each part is given once, as in scope=synccache"),
        ("fewer-steps+hicache", {}, "'fewer-steps' is a control that leaves nothing out, so it has no gate to lend"),
        ("synccache+none", {}, "no forecaster to lend"),
        ("synccache+hicache", {"interval": 4}, r"'interval' is not a setting of the method 'synccache\+hicache'"),
        ("synccache+hicache", {"sigma": 3}, "sigma=3 can't be used"),
        ("synccache+hicache", {"threshold": 0.1, "computed_steps": 9}, "not both"),
    ],
)
def test_what_cannot_be_composed_is_said(method, settings, message):
    with pytest.raises(InputError, match=message):
        synccache.apply(Video(), method, **settings)


def test_it_runs_and_its_settings_can_be_saved(tmp_path):
    pipe = Pipeline(Video())
    with synccache.cached(pipe, "interval+foca", interval=2) as handle:
        out = pipe()
        assert handle.trace.skipped() > 0 and torch.isfinite(out).all()
        path = handle.save(tmp_path / "settings.json")
    assert json.loads(path.read_text())["method"] == "interval+foca"
    with synccache.cached(pipe, settings=path) as again:
        assert again.method == handle.method and torch.equal(pipe(), out)


def test_the_command_line_takes_composed_names_and_the_settings_of_their_parts():
    check_settings("synccache+hicache", {"sigma": 0.4, "threshold": 0.2})
    check_settings("gate=synccache,scope=whole-stack,forecaster=foca", {"heun": True, "decoupled": True})
    with pytest.raises(InputError, match="'heun' is not a setting of the method 'synccache"):
        check_settings("synccache+hicache", {"heun": True})


def learning(seen, name, **alone):
    def build(s):
        seen[name] = (s["profile"], s["decoupled"])
        return Method(gates.Interval(2), scopes.WholeStack(), forecasters.Reuse())

    return Recipe(name, "", "", "", "", "", {"profile": None, "decoupled": False}, build, needs=name, alone=alone)


def test_a_profile_goes_to_the_parts_whose_method_has_learnt_it():
    seen, one, two = {}, *(SimpleNamespace(method=m, tensors={}, settings={"decoupled": m}) for m in ("one", "two"))
    recipe = composed("one+two", {name: learning(seen, name) for name in ("one", "two")})
    recipe.build(complete(recipe, {"profile": two}))
    assert seen == {"one": (None, False), "two": (two, "two")}  # "decoupled" is set for the scope, of "one"
    recipe.build(complete(recipe, {"profile": [two, one], "decoupled": True}))
    assert seen == {"one": (one, True), "two": (two, "two")}
    assert recipe.needs == "one; two"


def test_what_lends_only_parts_that_its_profile_does_not_serve_takes_none():
    seen, stack = {}, scopes.WholeStack(keep_last=1)
    recipes = {"one": learning(seen, "one"), "two": learning(seen, "two", scope=lambda s: stack)}
    assert profiled("gate=one,scope=two", recipes) == ("one",) and profiled("two+one", recipes) == ("two", "one")
    assert profiled("two", recipes) == ("two",) and recipes["two"].profile_serves == ("gate", "forecaster")
    recipe = composed("gate=part,scope=two", recipes | {"part": part("part", {}, {})})
    assert "profile" not in recipe.settings and recipe.needs == "nothing"
    assert recipe.build(complete(recipe, {})).scope is stack and not seen


@pytest.fixture(scope="module")
def pipe():
    return Pipeline(Video())


@pytest.fixture(scope="module")
def learnt(pipe):
    return {name: learn_profile(pipe, name, pipe) for name in ("magcache", "hyca", "svd-cache")}


def test_profiles_are_the_users_and_for_the_other_methods_the_shipped_ones(pipe, learnt, tmp_path):
    anatomy = Anatomy("Video", tuple(pipe.transformer.blocks), sites=(0, 2), shipped=tmp_path)
    parts = (tuple(learnt["magcache"].tensors["ratios"].tolist()), learnt["hyca"].tensors["rule_of_channel"])

    def used(**given):
        with synccache.cached(pipe, "magcache+hyca", anatomy=anatomy, **given) as handle:
            path = handle.save(tmp_path / "settings.json")
        with synccache.cached(pipe, settings=path, anatomy=anatomy) as again:
            assert again.method == handle.method
        return handle.method.gate.gate.ratios == parts[0] and torch.equal(handle.method.forecaster.of, parts[1])

    files = [learnt[name].save(tmp_path / f"{name}.safetensors") for name in ("hyca", "magcache")]
    assert used(profile=files) and used(profile=[str(path) for path in files])
    with pytest.raises(InputError, match="'hyca' needs profile"):
        synccache.apply(pipe, "magcache+hyca", anatomy=anatomy, profile=files[1])
    learnt["hyca"].save(tmp_path / profile_name("hyca"))
    assert used(profile=files[1])
    learnt["magcache"].save(tmp_path / profile_name("magcache"))
    assert used()


def test_profiles_that_can_not_be_used_are_refused(pipe, learnt):
    for method, given, message in (
        ("magcache+hyca", ["magcache", "hyca", "hyca"], "Two profiles of the method 'hyca' were given. Give one of"),
        ("magcache+hyca", ["svd-cache"], "profile is of the method 'svd-cache', not of 'magcache.hyca'"),
        ("gate=magcache,scope=hyca", ["magcache", "hyca"], "takes no part of 'hyca' that its profile serves. Leave"),
        ("gate=interval,scope=magcache", ["magcache"], "'profile' is not a setting of the method 'gate=interval"),
        ("magcache", ["magcache", "magcache"], "Two profiles of the method 'magcache'"),
    ):
        with pytest.raises(InputError, match=message):
            synccache.apply(pipe, method, profile=[learnt[name] for name in given])
    with pytest.raises(InputError, match="profile is a profile file's path, or a Profile, or a list of these"):
        synccache.apply(pipe, "magcache+hyca", profile=[])
    check_settings("magcache+hyca", {"profile": ["one.safetensors", "two.safetensors"]})


@pytest.mark.parametrize("method", ["magcache+hyca", "teacache+svd-cache", "profilingdit+hyca", "searched+l2p"])
def test_the_portrait_models_profiles_are_all_taken(method):
    pipe = PortraitPipeline.load()
    with synccache.cached(pipe, method) as handle:
        first, second = handle.method, method.split("+")[1]
    with synccache.cached(pipe, second) as handle:
        assert handle.method.forecaster == first.forecaster
