"""``synccache profile`` on a tiny portrait model, and what it made in use."""

import json
from pathlib import Path

import pytest
import torch

import synccache
from synccache.cli import main
from synccache.portrait.pipeline import PortraitPipeline
from synccache.portrait.transformer import PortraitConfig, PortraitTransformer
from synccache.profiles import Plan, Profile

TINY = PortraitConfig(
    image_size=32, patch_size=8, overlap=2, dim=32, ffn_dim=48, heads=2, layers=4, inject_after=(0, 1, 3), frames=4
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    made = PortraitTransformer(TINY)
    torch.nn.init.normal_(made.change_out.weight, std=0.02)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    made.save(path)
    return path


def profile(model, out, method, *more):
    arguments = ["profile", "--method", method, "--out", out, "--steps", "12", "--model", model, *more]
    return main([str(a) for a in arguments])


def animate(model, folder, method, *files_and_more):
    """One clip and a bit of a bundled photo with a noise for speech."""
    video, speech, picture = folder / "talk.mp4", sound(folder / "speech.wav"), folder / "photo.png"
    _portrait().save(picture)
    command = ["animate", "--image", picture, "--audio", speech, "--out", video, "--steps", "12", "--size", "64"]
    command += ["--model", model, "--method", method, "--json"]
    for one in files_and_more:
        command += ["--profile", one] if isinstance(one, Path) else [one]
    return main([str(a) for a in command])


def sound(path, seconds=0.4):
    import wave

    import numpy as np

    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16000)
        wave_ = np.random.default_rng(0).normal(0, 3000, int(16000 * seconds))
        out.writeframes(wave_.astype("<i2").tobytes())
    return path


def test_a_profile_is_made_and_animates(model, tmp_path, capsys):
    out = tmp_path / "profile.safetensors"
    assert profile(model, out, "l2p", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["profile"] == str(out) and said["steps"] == 12 and said["tensors"] == {"rows": [12, 12]}
    made = Profile.load(out, "l2p")
    assert made.model["anatomy"] == "portrait" and made.scheduler is not None and made.source == said["source"]
    assert made.source["image"] == "astronaut.jpg" and made.source["model"].startswith("tiny.safetensors (sha256 ")
    assert animate(model, tmp_path, "l2p", out) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["settings"]["profile"] == str(out) and report["accelerated"]["computed_steps"] < 24
    assert (tmp_path / "talk.mp4").stat().st_size > 0


def test_a_composed_method_takes_a_profile_of_each_of_its_parts(model, tmp_path, capsys):
    files = [tmp_path / f"{name}.safetensors" for name in ("magcache", "hyca")]
    for file in files:
        assert profile(model, file, file.stem, "--set", "decoupled=true", "--json") == 0
    capsys.readouterr()
    assert animate(model, tmp_path, "magcache+hyca", *files, "--set", "decoupled=true") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["settings"]["profile"] == list(map(str, files)) and report["accelerated"]["computed_steps"] < 24
    (tmp_path / "talk.mp4").unlink()
    assert animate(model, tmp_path, "magcache+hyca", files[0]) == 2
    assert "--method hyca" in capsys.readouterr().err


def test_the_seed_and_the_settings_count_and_people_are_told(model, tmp_path, capsys):
    tensors = []
    for number, more in enumerate(([], ["--seed", "1"], ["--set", "decoupled=true"])):
        out = tmp_path / f"{number}.safetensors"
        assert profile(model, out, "magcache", *more) == 0
        tensors.append(Profile.load(out).tensors["ratios"])
    assert not torch.equal(tensors[0], tensors[1]) and not torch.equal(tensors[0], tensors[2])
    told = capsys.readouterr().out
    assert "magcache learnt from 12 steps: ratios [12]" in told and "2.safetensors" in told


def test_synccache_learns_where_to_merge_segments_and_which_errors_its_probe_finds(model, tmp_path, capsys):
    out = tmp_path / "profile.safetensors"
    assert profile(model, out, "synccache") == 0
    told = capsys.readouterr().out
    assert "errors [12]" in told and "segments kept: 1, ending after blocks the last block only" in told
    assert profile(model, out, "synccache", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    plan = Plan.of(Profile.load(out).tensors)
    assert said["boundaries"] == {str(n): list(plan.boundaries(n)) for n in range(1, len(plan.ends) + 1)}
    pipe = PortraitPipeline.load(model)
    for method in ("synccache", "hicache", "synccache+foca"):
        with synccache.cached(pipe, method, profile=out, cache_ratio=0.7) as handle:
            assert [r.last for r in handle.regions[:-1]] == list(plan.boundaries(len(handle.regions)))


@pytest.mark.parametrize(
    ("method", "name", "more", "says"),
    [
        ("interval", "p.safetensors", [], "'interval' learns nothing from a run"),
        ("magcash", "p.safetensors", [], "'magcash' is not a method"),
        ("magcache", "p.json", [], "must end in .safetensors"),
        ("magcache", "no such folder/p.safetensors", ["--image", "missing.png"], "missing.png"),
        ("magcache", "p.safetensors", ["--steps", "1"], "made 1 steps of the model; at least 2"),
        ("magcache", "p.safetensors", ["--steps", "0"], "steps must lie between"),
        ("magcache", "p.safetensors", ["--set", "tresh=1"], "threshold"),
        ("magcache", "p.safetensors", ["--image", "missing.png"], "missing.png"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(model, tmp_path, capsys, method, name, more, says):
    assert profile(model, tmp_path / name, method, *more) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and says in said and "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_the_model_is_not_written_over(model, capsys):
    before = model.read_bytes()
    assert profile(model, model, "magcache") == 2
    assert "one of the inputs" in capsys.readouterr().err and model.read_bytes() == before


def _portrait():
    from PIL import Image
    from skimage import data

    return Image.fromarray(data.astronaut()[:300, 80:380])
