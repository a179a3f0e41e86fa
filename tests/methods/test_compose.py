"""Methods composed by name: each part from its recipe, with its own settings and defaults."""

import json
from types import SimpleNamespace

import pytest
import torch
from toys import Pipeline, Video

import synccache
from synccache import InputError, forecasters, gates, scopes
from synccache.animation.request import check_settings
from synccache.engine.method import Method
from synccache.methods import RECIPES, complete, find
from synccache.methods.compose import PARTS, composed
from synccache.methods.recipe import Recipe
from synccache.methods.settings import AXES


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


def test_a_profile_goes_to_the_part_whose_method_has_learnt_it():
    seen = {}

    def learning(name):
        def build(s):
            seen[name] = s["profile"]
            return Method(gates.Interval(2), scopes.WholeStack(), forecasters.Reuse())

        return Recipe(name, "", "", "", "", "", {"profile": None}, build)

    profile = SimpleNamespace(method="two", tensors={})
    recipe = composed("one+two", {"one": learning("one"), "two": learning("two")})
    recipe.build(complete(recipe, {"profile": profile}))
    assert seen == {"one": None, "two": profile}
