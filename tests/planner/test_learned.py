"""Profiles: learnt from one run, kept in a file, refused where they don't belong."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import synccache
from synccache import Anatomy, InputError
from synccache.anatomies import find
from synccache.methods import RECIPES
from synccache.planner import learn_profile, learning
from synccache.profiles import Profile, profile_name
from synccache.testing import Pipeline, Video, WanModel_S2V

NOW = {"steps": 4}


def pipeline():
    return Pipeline(Video())


@pytest.fixture(scope="module")
def profile():
    pipe = pipeline()
    return learn_profile(pipe, "magcache", lambda: pipe(**NOW), source={"clip": "noise"})


def header_of(path):
    with safe_open(str(path), framework="pt") as file:
        return json.loads(file.metadata()["synccache"])


def test_a_profile_says_what_it_belongs_to(profile):
    assert profile.method == "magcache" and profile.scheduler == "EulerScheduler" and profile.steps == 4
    assert profile.timesteps == pytest.approx((1000, 750, 500, 250)) and profile.source == {"clip": "noise"}
    assert profile.model == {"anatomy": "Video", "blocks": 5, "sites": [0, 2], "width": None}
    assert profile.tensors["ratios"].shape == (4,)


def test_learning_leaves_nothing_attached():
    pipe = pipeline()
    plain = pipe(**NOW)
    learn_profile(pipe, "l2p", lambda: pipe(**NOW))
    assert type(pipe.transformer) is Video and torch.equal(pipe(**NOW), plain)


def test_files_round_trip(profile, tmp_path):
    path = profile.save(tmp_path / "p.safetensors")
    again = Profile.load(path, "magcache")
    for name in ("method", "model", "timesteps", "scheduler", "source", "weights", "settings"):
        assert getattr(again, name) == getattr(profile, name)
    assert torch.equal(again.tensors["ratios"], profile.tensors["ratios"])
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode  # whoever may read other files may read it
    assert header_of(path) | {"model": 0, "timesteps": 0} == {
        "schema": "synccache.profile", "version": 1, "method": "magcache", "model": 0, "scheduler": "EulerScheduler",
        "steps": 4, "timesteps": 0, "source": {"clip": "noise"}, "weights": profile.weights,
        "settings": {"decoupled": False},
    }  # fmt: skip


def test_what_cannot_be_written_is_said_and_leaves_nothing(profile, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="folder can't be written"):
        profile.save(tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
    with pytest.raises(InputError, match=r"nowhere.*can't be written"):
        profile.save(tmp_path / "nowhere" / "p.safetensors")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": "synccache.plan"}, r"holds 'synccache\.plan', not 'synccache\.profile'"),
        ({"version": 2}, "has version 2; this synccache reads version 1"),
        ({"method": None}, "no method"),
        ({"model": []}, "no model"),
        ({"timesteps": [1.0]}, "1 timesteps for 4 steps"),
        ({"timesteps": [1.0, 2.0, float("nan"), 3.0]}, "damaged"),
        ({"steps": "4"}, "no steps"),
        ({"scheduler": 3}, "no scheduler"),
        ({"source": "x"}, "no source"),
        ({"weights": 3}, "weights or settings are of a wrong kind"),
        ({"settings": [1]}, "weights or settings are of a wrong kind"),
    ],
)
def test_headers_are_checked(profile, tmp_path, change, says):
    path = profile.save(tmp_path / "p.safetensors")
    save_file(dict(profile.tensors), str(path), {"synccache": json.dumps({**header_of(path), **change})})
    with pytest.raises(InputError, match=rf"p\.safetensors.*{says}.*synccache\.learn_profile"):
        Profile.load(path)


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({}, "it holds no tensor"),
        ({"ratios": torch.tensor([1.0, float("nan")])}, "ratios is not finite"),
        ({"ratios": torch.ones(2, dtype=torch.uint8)}, r"ratios is of torch\.uint8"),
    ],
)
def test_tensors_are_checked(profile, tmp_path, tensors, says):
    path = profile.save(tmp_path / "p.safetensors")
    save_file(tensors, str(path), {"synccache": json.dumps(header_of(path))})
    with pytest.raises(InputError, match=says):
        Profile.load(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "not a readable safetensors"), (b"\x93NUMPY" * 9, "not a readable safetensors"), (None, "There is no file")],
)
def test_what_is_no_profile_is_refused(tmp_path, content, says):
    path = tmp_path / "p.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        Profile.load(path)


def test_a_safetensors_file_of_something_else_is_refused(tmp_path):
    save_file({"w": torch.ones(2)}, str(tmp_path / "w.safetensors"))
    with pytest.raises(InputError, match="holds 'no schema'"):
        Profile.load(tmp_path / "w.safetensors")
    for text in ("[]", "{", "3"):
        save_file({"w": torch.ones(2)}, str(tmp_path / "w.safetensors"), {"synccache": text})
        with pytest.raises(InputError, match="holds 'no schema'"):
            Profile.load(tmp_path / "w.safetensors")


def test_another_methods_profile_is_refused(profile, tmp_path):
    path = profile.save(tmp_path / "p.safetensors")
    for given in (path, profile):
        with pytest.raises(InputError, match=r"is.* of the method 'magcache', not of 'l2p'"):
            synccache.apply(pipeline(), "l2p", profile=given)
    assert profile.serves("magcache+hicache") and profile.serves("gate=magcache,scope=synccache")
    assert not profile.serves("synccache")


def test_another_models_profile_is_refused(profile):
    for other in (Video(layers=4), WanModel_S2V()):
        with pytest.raises(InputError, match="The profile was made for a model with"):
            synccache.apply(other, "magcache", profile=profile, anatomy=replace(find(other), observe=None))
    assert not profile.fits(Anatomy("video", tuple(Video().blocks)))
    guess = Anatomy("Video", tuple(Video(layers=2).blocks), observe=lambda visits: guess)
    profile.check(guess)  # what it is made of is seen on its first call


def test_another_schedulers_profile_is_refused(profile):
    class DpmScheduler(type(pipeline().scheduler)):
        pass

    pipe = pipeline()
    pipe.scheduler = DpmScheduler()
    with pytest.raises(
        InputError, match=r"made with a EulerScheduler, and this pipeline has a DpmScheduler.*synccache"
    ):
        synccache.apply(pipe, "magcache", profile=profile)
    with synccache.cached(pipe.transformer, "magcache", profile=profile):  # nobody knows of another one here
        pass


def test_a_profile_as_a_setting_can_be_saved_and_loads_again(profile, tmp_path):
    pipe, path = pipeline(), profile.save(tmp_path / "p.safetensors")
    with synccache.cached(pipe, "magcache", profile=path, threshold=0.05) as handle:
        assert handle.settings["profile"] == path
        kept, method = handle.save(tmp_path / "settings.json"), handle.method
    with synccache.cached(pipe, settings=kept) as again:
        assert again.method == method
    with synccache.cached(pipe, "magcache", profile=profile) as handle:
        assert handle.method.gate.gate.ratios == method.gate.gate.ratios
        kept, method = handle.save(tmp_path / "settings.json"), handle.method
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "p.safetensors", "settings-magcache.safetensors", "settings.json",
    ]  # fmt: skip
    with synccache.cached(pipe, settings=kept) as again:
        assert again.method == method
    for wrong in (3, [3], True):
        with pytest.raises(InputError, match="profile is a profile file's path, or a Profile"):
            synccache.apply(pipe, "magcache", profile=wrong)
    with pytest.raises(InputError, match="'profile' is not a setting of the method 'fora'"):
        synccache.apply(pipe, "fora", profile=path)
    with pytest.raises(InputError, match=r"of 'magcache' tells nothing of segments.*learn_profile\(pipe, 'synccache'"):
        synccache.apply(pipe, "synccache", profile=path)


def test_the_shipped_profile_is_taken_where_it_fits(profile, tmp_path):
    pipe = pipeline()

    def anatomy(layers=5):
        return Anatomy("Video", tuple(Video(layers=layers).blocks), sites=(0, 2), shipped=tmp_path)

    with pytest.raises(InputError, match="needs to know how the residual's magnitude changes"):
        synccache.apply(pipe, "magcache", anatomy=anatomy())
    profile.save(tmp_path / profile_name("magcache"))
    with synccache.cached(pipe, "magcache", anatomy=anatomy()) as handle:
        assert handle.method.gate.gate.ratios == tuple(profile.tensors["ratios"].tolist())
        assert handle.settings["profile"] is None
    with pytest.raises(InputError, match="needs to know"):
        synccache.apply(pipe, "magcache", anatomy=anatomy(layers=6))


def test_what_a_profile_lacks_is_named(profile):
    bare = Profile(profile.method, profile.model, {"other": torch.ones(2)}, profile.timesteps)
    with pytest.raises(InputError, match=r"has no 'ratios', only 'other'.*learn_profile\(pipe, 'magcache'"):
        synccache.apply(pipeline(), "magcache", profile=bare)


def test_a_method_that_learns_nothing_says_so():
    with pytest.raises(InputError, match=r"'interval' learns nothing from a run, .* These do: .*l2p.*magcache"):
        learn_profile(pipeline(), "interval", lambda: None)
    with pytest.raises(InputError, match="not a method"):
        learn_profile(pipeline(), "magcash", lambda: None)
    with pytest.raises(InputError, match="not a setting of the method 'magcache'"):
        learn_profile(pipeline(), "magcache", lambda: None, sigma=1)
    assert RECIPES["magcache"].info()["learns"] is True and RECIPES["interval"].info()["learns"] is False


def test_a_call_that_runs_nothing_teaches_nothing():
    with pytest.raises(InputError, match="made 0 steps"):
        learn_profile(pipeline(), "magcache", lambda: None)


def test_a_learner_that_has_no_look_at_the_steps_needs_two_all_the_same(monkeypatch):
    def careless(recorder, settings):
        return {"found": torch.ones(2)}

    monkeypatch.setattr(learning, "check_learns", lambda name: (RECIPES[name], careless))
    with pytest.raises(InputError, match="made 0 steps of the model; at least 2"):
        learn_profile(pipeline(), "magcache", lambda: None)


def test_what_is_composed_learns_as_the_method_whose_profile_it_takes():
    for name in ("interval+hyca", "gate=interval,forecaster=hyca"):
        with pytest.raises(InputError, match=r"made of several methods.*learn_profile\(pipe, 'hyca'"):
            learn_profile(pipeline(), name, lambda: None)
    with pytest.raises(InputError, match="learns nothing from a run"):
        learn_profile(pipeline(), "interval+taylorseer", lambda: None)
