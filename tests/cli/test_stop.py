"""Ctrl-C, silence, masks that don't fit, and inputs that would be written over."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from synccache.animation import job
from synccache.cli import main
from synccache.portrait.transformer import PortraitConfig, PortraitTransformer

TINY = PortraitConfig(
    image_size=32, patch_size=8, overlap=2, dim=32, ffn_dim=48, heads=2, layers=4, inject_after=(0, 1, 3), frames=4
)


@pytest.fixture
def arguments(tmp_path):
    import wave

    Image.fromarray(data.astronaut()[:300, 80:380]).save(tmp_path / "portrait.png")
    Image.fromarray(np.full((200, 200, 3), 90, np.uint8)).save(tmp_path / "noface.png")
    Image.fromarray(np.full((30, 90), 255, np.uint8)).save(tmp_path / "wide.png")
    with wave.open(str(tmp_path / "silence.wav"), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16000)
        out.writeframes(bytes(9600))
    torch.manual_seed(0)
    PortraitTransformer(TINY).save(tmp_path / "tiny.safetensors")
    (tmp_path / "out").mkdir()

    def make(image, *more):
        given = ["--image", tmp_path / image, "--audio", tmp_path / "silence.wav", "--out", tmp_path / "out" / "a.mp4"]
        rest = ["--model", tmp_path / "tiny.safetensors", "--steps", "4", "--size", "64", *more]
        return [str(a) for a in ["animate", *given, *rest]]

    return make


def test_ctrl_c_writes_nothing(arguments, tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "draw", interrupted)  # after both videos were written under other names
    assert main(arguments("portrait.png", "--compare")) == 130
    assert "--resume goes on" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.mp4.resume"]


def test_before_the_first_clip_is_done_nothing_is_kept(arguments, tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "estimate", interrupted)
    assert main(arguments("portrait.png")) == 130
    assert capsys.readouterr().err.strip().endswith("stopped; nothing was written")
    assert list((tmp_path / "out").iterdir()) == []


def test_being_ended_by_the_system_leaves_nothing_half_written(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(job, "draw", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit, match="143"):
        main(arguments("portrait.png", "--compare"))
    assert "2 finished clips kept in" in capsys.readouterr().err
    kept = tmp_path / "out" / "a.mp4.resume"
    assert [p.name for p in (tmp_path / "out").iterdir()] == [kept.name]
    assert sorted(p.name for p in kept.iterdir()) == [
        "cached-0000.safetensors",
        "job.json",
        "uncached-0000.safetensors",
    ]


def test_silence_and_a_missing_face_are_warned_of_once(arguments, tmp_path, capsys):
    assert main(arguments("noface.png", "--no-crop")) == 0
    said = capsys.readouterr().err
    assert said.count("is silent") == 1 and said.count("No face was found") == 1
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.mp4"]


def test_inputs_are_not_written_over_and_masks_must_fit(arguments, tmp_path, capsys):
    assert main(arguments("portrait.png", "--mask", str(tmp_path / "wide.png"))) == 2
    assert "photo's shape" in capsys.readouterr().err
    assert main(arguments("portrait.png", "--report", str(tmp_path / "wide.txt"))) == 2
    assert ".json" in capsys.readouterr().err
    assert main(arguments("portrait.png", "--set", "threshold")) == 2
    assert "name=value" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("size", ["64", "1024"])
def test_a_full_disk_is_said_of_the_output_itself(arguments, tmp_path, size):
    """By a limit on the size of files, which acts as a full disk does: at the video's end, or in the middle of it."""
    Image.fromarray(data.astronaut()[:300, 80:380]).resize((512, 512)).save(tmp_path / "portrait.png")
    code = f"""
import resource, sys
from synccache.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, ({2000 if size == "64" else 30000},) * 2)
sys.exit(main({[*arguments("portrait.png"), "--size", size]!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    said = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2 and said.startswith("error: ") and "Traceback" not in done.stderr
    assert "out/a.mp4 cannot be written (File too large" in said and done.stderr.count("clips can't be kept") == 1
    assert list((tmp_path / "out").iterdir()) == []
