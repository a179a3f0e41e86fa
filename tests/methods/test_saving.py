"""Settings in a file: profiles beside it, paths as seen from it."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

import synccache
from synccache import InputError
from synccache.forecasters import Reuse
from synccache.gates import Interval
from synccache.planner import learn_profile
from synccache.profiles import load_settings, save_settings
from synccache.scopes import WholeStack
from synccache.testing import Pipeline, Video


@pytest.fixture(scope="module")
def pipe():
    return Pipeline(Video())


@pytest.fixture(scope="module")
def learnt(pipe):
    return {name: learn_profile(pipe, name, pipe) for name in ("magcache", "hyca", "synccache")}


def written(path):
    return json.loads(path.read_text(encoding="utf-8"))["settings"]


def test_a_profile_in_memory_is_written_beside_the_settings(pipe, learnt, tmp_path):
    with synccache.cached(pipe, "magcache", profile=learnt["magcache"], threshold=0.2) as handle:
        path = handle.save(tmp_path / "mine.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine-magcache.safetensors", "mine.json"]
    assert written(path)["profile"] == "mine-magcache.safetensors"
    with synccache.cached(pipe, settings=path) as again:
        assert again.method == handle.method


def test_several_profiles_and_a_plan(pipe, learnt, tmp_path):
    given = [learnt["magcache"], learnt["hyca"].save(tmp_path / "hyca.safetensors")]
    with synccache.cached(pipe, "magcache+hyca", profile=given) as handle:
        path = handle.save(tmp_path / "mine.json")
    assert written(path)["profile"] == ["mine-magcache.safetensors", "hyca.safetensors"]
    with synccache.cached(pipe, settings=path) as again:
        assert again.method == handle.method
    with synccache.cached(pipe, "synccache", plan=learnt["synccache"], computed_steps=7) as handle:
        path = handle.save(tmp_path / "plan.json")
    assert written(path)["plan"] == "plan-synccache.safetensors"
    with synccache.cached(pipe, settings=path) as again:
        assert again.method == handle.method and again.method.gate.errors is not None


def test_a_folder_can_be_moved_as_a_whole(pipe, learnt, tmp_path, monkeypatch):
    (tmp_path / "a" / "profiles").mkdir(parents=True)
    (tmp_path / "a" / "settings").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    file = learnt["magcache"].save("profiles/p.safetensors")  # as seen from where the program runs
    with synccache.cached(pipe, "magcache", profile=str(file)) as handle:
        handle.save("settings/s.json")
    monkeypatch.chdir(tmp_path)
    shutil.move("a", "b")
    path = tmp_path / "b" / "settings" / "s.json"
    assert written(path)["profile"] == "../profiles/p.safetensors"
    for given in (path, "b/settings/s.json"):
        with synccache.cached(pipe, settings=given) as again:
            assert again.method == handle.method
    (tmp_path / "b" / "profiles" / "p.safetensors").unlink()
    with pytest.raises(InputError, match=r"There is no file .*b/settings/\.\./profiles/p\.safetensors"):
        synccache.apply(pipe, settings=path)


def test_an_absolute_path_in_a_file_stays_one(pipe, learnt, tmp_path):
    file = learnt["magcache"].save(tmp_path / "p.safetensors")
    (tmp_path / "other").mkdir()
    path = save_settings("magcache", {"profile": None, "threshold": 0.1}, tmp_path / "other" / "s.json")
    content = json.loads(path.read_text())
    content["settings"]["profile"] = str(file)
    path.write_text(json.dumps(content))
    assert load_settings(path) == ("magcache", {"threshold": 0.1, "profile": str(file)})


def test_plain_values_round_trip(tmp_path):
    given = {"threshold": 0.1, "branches": "shared", "schedule": frozenset({3, 1}), "boundaries": (2, 4), "last": None}
    path = save_settings("synccache", {**given, "storage_dtype": torch.bfloat16}, tmp_path / "s.json")
    assert load_settings(path) == (
        "synccache",
        {"threshold": 0.1, "branches": "shared", "schedule": [1, 3], "boundaries": [2, 4], "storage_dtype": "bfloat16"},
    )


def test_what_has_no_form_in_a_file_is_refused(pipe, learnt, tmp_path):
    with pytest.raises(InputError, match=r"group=.* has no form in a settings file"):
        save_settings("synccache", {"group": object()}, tmp_path / "s.json")
    broken = replace(learnt["magcache"], source={"x": "y"})
    refused = pytest.raises(InputError, match="can't be written")
    with synccache.cached(pipe, "magcache", profile=broken) as handle, refused:
        handle.save(tmp_path / "nowhere" / "s.json")
    for name in ("custom", "mine"):
        method = synccache.Method(Interval(2), WholeStack(), Reuse(), name)
        with synccache.cached(pipe, method) as handle, pytest.raises(InputError, match="composed in Python"):
            handle.save(tmp_path / "s.json")
    assert not list(tmp_path.iterdir())


def test_what_is_given_goes_before_the_file_and_another_method_takes_nothing_of_it(pipe, tmp_path):
    with synccache.cached(pipe, "interval", interval=4) as handle:
        path = handle.save(tmp_path / "s.json")
    with synccache.cached(pipe, settings=path, interval=2) as handle:
        assert handle.settings["interval"] == 2
    with synccache.cached(pipe, "linear", settings=path) as handle:
        assert handle.method.name == "linear" and handle.settings["interval"] == 3
