"""Methods and settings by name, and what is said about names and values that don't exist."""

import json

import pytest
import torch

import synccache
from synccache import InputError, Method
from synccache.forecasters import Reuse
from synccache.gates import Interval
from synccache.methods import RECIPES, complete
from synccache.methods.recipe import Recipe
from synccache.scopes import WholeStack
from synccache.testing import Pipeline, Video


def test_public_names_are_sorted_and_exist():
    assert synccache.__all__ == sorted(synccache.__all__)
    assert all(hasattr(synccache, name) for name in synccache.__all__)
    assert synccache.__version__ == "0.1.0"


def test_the_methods():
    expected = {
        "asymmetric", "fewer-steps", "interval", "linear", "none", "schedule", "synccache", "synccache-linear",
        "whole-stack",
    }  # fmt: skip
    assert set(synccache.methods()) >= expected
    for name, recipe in synccache.methods().items():
        info = json.loads(json.dumps(recipe.info()))
        assert info["name"] == name and info["summary"].endswith(".") and info["paper"]


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("sync-cache", {}, r"'sync-cache' is not a method\. Did you mean 'synccache'\? There are: asymmetric, "),
        (
            "synccache",
            {"treshold": 1},
            r"'treshold' is not a setting of the method 'synccache'\. Did you mean 'threshold'",
        ),
        (
            "interval",
            {"threshold": 1},
            r"'threshold' is not a setting of the method 'interval'\.( Did.*)? There are: branches, ",
        ),
        ("synccache", {"threshold": -1}, r"threshold=-1 .* a number of at least 0"),
        ("synccache", {"threshold": "a"}, r"threshold='a'"),
        ("synccache", {"threshold": True}, r"threshold=True"),
        ("synccache", {"cache_ratio": 0}, r"over 0 and up to 1"),
        ("synccache", {"computed_steps": 2.5}, r"a whole number"),
        ("synccache", {"threshold": 0.1, "computed_steps": 9}, r"not both"),
        ("synccache", {"branches": "both"}, r"'shared' or 'separate'"),
        ("synccache", {"storage_dtype": torch.int8}, r"floating-point"),
        ("synccache", {"boundaries": [-1]}, r"list of block indices"),
        ("synccache", {"plan": "nowhere.safetensors"}, r"no file nowhere\.safetensors"),
        ("synccache", {"mask": torch.ones(2, 2) * 3}, r"0\.\.1 .* not in 3\.\.3"),
        ("synccache", {"mask": torch.ones(1, 1, 1, 2, 2)}, r"not \[1, 1, 1, 2, 2\]"),
        ("schedule", {}, r"schedule=\[0, 1, 4, \.\.\.\]"),
        ("fewer-steps", {}, r"pipeline whose \.scheduler"),
        (3, {}, r"not a int"),
    ],
)
def test_what_cannot_be_used_is_named(method, settings, message):
    model = Video()
    with pytest.raises(InputError, match=message):
        synccache.apply(model, method, **settings)
    assert type(model) is Video


def test_a_composed_method_takes_only_the_engines_settings():
    method = Method(Interval(2), WholeStack(), Reuse())
    with pytest.raises(InputError, match="'threshold' is not a setting beside a composed Method"):
        synccache.apply(Video(), method, threshold=1)
    with synccache.cached(Video(), method, branches="separate", storage_dtype=torch.bfloat16) as handle:
        assert handle.method is method and handle.settings["branches"] == "separate"
        with pytest.raises(InputError, match="composed in Python"):
            handle.save("never.json")


def test_defaults_by_model_go_between_the_methods_and_the_users():
    recipe = Recipe("r", "", "", "", "", "", {"threshold": 0.1, "last": 1}, lambda s: None, {"wan": {"threshold": 0.2}})
    assert complete(recipe, {})["threshold"] == 0.1
    assert complete(recipe, {}, "wan")["threshold"] == 0.2
    assert complete(recipe, {"threshold": 0.3}, "wan")["threshold"] == 0.3


def test_a_threshold_goes_before_a_default_budget():
    recipe = Recipe("r", "", "", "", "", "", {"threshold": 0.1, "computed_steps": 9}, lambda s: None)
    assert complete(recipe, {"threshold": 0.3})["computed_steps"] is None
    assert complete(recipe, {})["computed_steps"] == 9


def test_settings_round_trip(tmp_path):
    path, pipe = tmp_path / "settings.json", Pipeline(Video())
    given = {"computed_steps": 7, "cache_ratio": 0.5, "storage_dtype": torch.bfloat16, "warmup": 3, "boundaries": [2]}
    with synccache.cached(pipe, "synccache", **given) as handle:
        handle.save(path)
        before = dict(handle.settings)
    with synccache.cached(pipe, settings=path) as handle:
        assert handle.method.name == "synccache" and dict(handle.settings) == before
        assert handle.settings["storage_dtype"] is torch.bfloat16
    with synccache.cached(pipe, settings=path, computed_steps=9) as handle:
        assert handle.settings["computed_steps"] == 9 and handle.settings["cache_ratio"] == 0.5
    content = json.loads(path.read_text())
    for broken in (
        {**content, "version": 99},
        {**content, "schema": "other"},
        {"schema": 1},
        [],
        {**content, "settings": 3},
    ):
        path.write_text(json.dumps(broken))
        with pytest.raises(InputError, match=r"settings\.json"):
            synccache.apply(pipe, settings=path)
    path.write_text("{")
    with pytest.raises(InputError, match="not a JSON file"):
        synccache.apply(pipe, settings=path)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_docstring_says_where_it_comes_from_and_what_it_costs(name):
    import sys

    module = sys.modules[RECIPES[name].build.__module__]
    for word in ("formula", "cost", "use it") if name != "none" else ("control",):
        assert word in module.__doc__.lower(), word
    if RECIPES[name].paper not in ("ours", "control"):
        assert "arxiv" in module.__doc__.lower() or "source: " in module.__doc__.lower() or name == "schedule"


@pytest.mark.parametrize("branches", ["shared", "separate"])
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("experts", [1, 2])
def test_computed_steps_holds_in_every_run(experts, batched, branches):
    pipe = Pipeline(*(Video(seed=seed) for seed in range(experts)), batched=batched)
    with synccache.cached(pipe, "synccache", computed_steps=8, branches=branches) as handle:
        for steps in (20, 20, 30, 9):
            pipe(steps=steps)
            assert handle.trace.computed() == 8


def test_decoupled_false_absorbs():
    with synccache.cached(Video(), "synccache", decoupled=False) as handle:
        assert [r.value for r in handle.regions] == ["absorbed"]
