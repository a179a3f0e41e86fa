"""The program as a stranger meets it: one sentence and exit code 2 for what can't be used, whole files or none."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from synccache import __version__
from synccache.cli import COMMANDS, main
from synccache.media import video
from synccache.portrait.transformer import PortraitConfig, PortraitTransformer

TINY = PortraitConfig(
    image_size=32, patch_size=8, overlap=2, dim=32, ffn_dim=48, heads=2, layers=4, inject_after=(0, 1, 3), frames=4
)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A folder with a portrait, speech in odd formats, things that are neither, and a tiny model."""
    import wave

    folder = tmp_path_factory.mktemp("given files, odd näme")
    Image.fromarray(data.astronaut()[:300, 80:380]).save(folder / "portrait.png")
    Image.fromarray(np.full((200, 200, 3), 90, np.uint8)).save(folder / "no face.png")
    (folder / "empty.png").touch()
    (folder / "corrupt.png").write_bytes(b"\x89PNG\r\n\x1a\nand then nothing")
    rng = np.random.default_rng(0)
    for name, rate, channels, seconds in (
        ("speech", 16000, 1, 0.4),
        ("stereo8k", 8000, 2, 0.2),
        ("tooshort", 8000, 1, 0.01),
    ):
        with wave.open(str(folder / f"{name}.wav"), "wb") as out:
            out.setnchannels(channels)
            out.setsampwidth(2)
            out.setframerate(rate)
            out.writeframes((rng.normal(0, 3000, int(rate * seconds) * channels)).astype("<i2").tobytes())
    torch.manual_seed(0)
    model = PortraitTransformer(TINY)
    torch.nn.init.normal_(model.change_out.weight, std=0.02)
    model.save(folder / "tiny.safetensors")
    video.write(folder / "clip.mp4", np.zeros((3, 32, 32, 3), np.uint8), 12.5)
    return folder


def animate(given, out, *more, image="portrait.png", audio="speech.wav"):
    arguments = ["animate", "--image", given / image, "--audio", given / audio, "--out", out, "--steps", "12"]
    return main([str(a) for a in [*arguments, "--size", "64", "--model", given / "tiny.safetensors", *more]])


def test_a_comparison_writes_both_videos_the_report_and_the_plot(given, tmp_path, capsys):
    assert animate(given, tmp_path / "talk.mp4", "--compare", "--report", tmp_path / "r.json", "--json") == 0
    report = json.loads((tmp_path / "r.json").read_text(), parse_constant=lambda _: pytest.fail("not finite"))
    wanted = "model method settings steps seed frames fps width height baseline accelerated speedup step_reduction"
    assert {*wanted.split(), "psnr_db", "ssim", "psnr_person_db", "trace"} <= set(report)
    assert {"seconds", "computed_steps", "cached_bytes_peak", "sync"} <= set(report["accelerated"])
    assert report["baseline"]["computed_steps"] == 24 > report["accelerated"]["computed_steps"]
    assert len(report["trace"]) == 2 * 2 * 12
    frames, fps = video.read(tmp_path / "talk.mp4")
    assert frames.shape == (5, 64, 64, 3) and fps == 12.5
    assert video.read(tmp_path / "talk.compare.mp4")[0].shape[2] > 128
    assert (tmp_path / "r.steps.png").read_bytes().startswith(b"\x89PNG")


def test_stereo_telephone_sound_of_a_fifth_of_a_second_is_enough(given, tmp_path):
    assert animate(given, tmp_path / "short.mp4", audio="stereo8k.wav") == 0
    assert video.read(tmp_path / "short.mp4")[0].shape[0] == 3


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"image": "missing.png"}, "missing.png"),
        ({"image": "empty.png"}, "empty"),
        ({"image": "corrupt.png"}, "corrupt.png"),
        ({"image": "clip.mp4"}, "video"),
        ({"image": "no face.png"}, "face"),
        ({"audio": "missing.wav"}, "missing.wav"),
        ({"audio": "portrait.png"}, "portrait.png"),
        ({"audio": "tooshort.wav"}, "tooshort.wav"),
        (["--method", "synccash"], "synccache"),
        (["--set", "tresh=1"], "threshold"),
        (["--threshold", "-1"], "threshold"),
        (["--model", "missing.safetensors"], "missing.safetensors"),
        (["--computed-steps", "13"], "computed_steps"),
        (["--set", "storage_device=meta"], "storage_device"),
        (["--device", "tpu"], "Give cpu"),
        (["--device", "cuda:99"], "Torch finds: cpu"),
        (["--mask", "missing.png"], "missing.png"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(given, tmp_path, capsys, more, says):
    options, files = (more, {}) if isinstance(more, list) else ([], more)
    assert animate(given, tmp_path / "out.mp4", *options, **files) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and says in said and "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_found_before_the_work(given, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert animate(given, tmp_path / "file" / "out.mp4") == 2
    assert "is a file, not a folder" in capsys.readouterr().err
    assert animate(given, tmp_path / "out.avi") == 2
    assert "mp4" in capsys.readouterr().err


def test_an_output_is_replaced_only_when_that_is_asked_for_and_folders_are_made(given, tmp_path, capsys):
    out = tmp_path / "new" / "folder" / "out.mp4"
    assert animate(given, out, "--report", out.with_suffix(".json"), audio="stereo8k.wav") == 0
    first = sorted(file.name for file in out.parent.iterdir())
    assert first == ["out.json", "out.mp4", "out.steps.png"]
    out.unlink()
    out.with_suffix(".json").write_text("mine")
    assert animate(given, out, "--report", out.with_suffix(".json"), audio="stereo8k.wav") == 2
    said = capsys.readouterr().err
    assert "out.json exists already" in said and "--overwrite" in said
    assert not out.exists() and out.with_suffix(".json").read_text() == "mine"
    assert animate(given, out, "--report", out.with_suffix(".json"), "--overwrite", audio="stereo8k.wav") == 0
    assert out.exists() and json.loads(out.with_suffix(".json").read_text())["frames"] == 3


def test_nothing_is_written_over_its_own_input(given, tmp_path, capsys):
    plan = tmp_path / "plan.json"
    photo = shutil.copy(given / "portrait.png", tmp_path / "photo.safetensors")
    learn = ["profile", "--method", "synccache", "--model", str(given / "tiny.safetensors"), "--steps", "4"]
    assert main([*learn, "--image", str(photo), "--out", str(photo)]) == 2
    plan.write_text("{}")
    assert animate(given, tmp_path / "o.mp4", "--set", f"plan={plan}", "--report", plan) == 2
    assert plan.read_text() == "{}" and photo.read_bytes() == (given / "portrait.png").read_bytes()
    assert capsys.readouterr().err.count("one of the inputs") == 2


def test_every_command_explains_itself_with_an_example(capsys):
    for name in COMMANDS:
        assert main([name, "--help"]) == 0
        assert f"synccache {name}" in capsys.readouterr().out


def test_version_and_methods(capsys):
    assert main(["--version"]) == 0 and __version__ in capsys.readouterr().out
    assert main(["methods", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    names = [m["name"] for m in listed] if isinstance(listed, list) else list(listed)
    assert {"synccache", "whole-stack", "fewer-steps", "none"} <= set(names)
