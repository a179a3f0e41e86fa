"""A job that was stopped goes on from its finished clips, and comes out as if it had never been stopped."""

import json
import wave

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from synccache.cli import main
from synccache.portrait.pipeline import PortraitPipeline
from synccache.portrait.transformer import PortraitConfig, PortraitTransformer

TINY = PortraitConfig(
    image_size=32, patch_size=8, overlap=2, dim=32, ffn_dim=48, heads=2, layers=4, inject_after=(0, 1, 3), frames=4
)
STEPS = 6


@pytest.fixture
def animate(tmp_path):
    """Runs the command on three clips of four frames, into ``name``."""
    Image.fromarray(data.astronaut()[:300, 80:380]).save(tmp_path / "portrait.png")
    with wave.open(str(tmp_path / "speech.wav"), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16000)
        out.writeframes(np.random.default_rng(0).normal(0, 3000, 15000).astype("<i2").tobytes())
    torch.manual_seed(0)
    model = PortraitTransformer(TINY)
    torch.nn.init.normal_(model.change_out.weight, std=0.02)
    model.save(tmp_path / "tiny.safetensors")

    def run(name, *more):
        files = ["--image", tmp_path / "portrait.png", "--audio", tmp_path / "speech.wav", "--out", tmp_path / name]
        rest = ["--model", tmp_path / "tiny.safetensors", "--steps", STEPS, "--size", 64, *more]
        return main([str(a) for a in ["animate", *files, *rest]])

    return run


@pytest.fixture
def stopping(monkeypatch):
    """Interrupts the program after so many denoising steps, and counts those that were made."""
    made = {"steps": 0, "limit": 10**9}
    plain = PortraitPipeline.denoise

    def denoise(self, *args, on_step=None, **kwargs):
        def count(done, total):
            made["steps"] += 1
            if made["steps"] > made["limit"]:
                raise KeyboardInterrupt
            on_step(done, total)

        return plain(self, *args, on_step=count, **kwargs)

    monkeypatch.setattr(PortraitPipeline, "denoise", denoise)
    monkeypatch.setattr("synccache.animation.job.estimate", lambda *_, **__: 1.0)
    return made


def stop_after(made, steps):
    made.update(steps=0, limit=steps)


def report(tmp_path, name):
    """All but what the clock says."""
    found = json.loads((tmp_path / name).with_suffix(".json").read_text())
    trace = [{k: v for k, v in row.items() if k != "seconds"} for row in found.pop("trace")]
    seconds = [found[run].pop("seconds") for run in ("baseline", "accelerated")]
    assert all(s > 0 for s in seconds) and found.pop("speedup") > 0
    return found, trace


@pytest.mark.parametrize("stops", [(STEPS + 2,), (STEPS + 2, 2 * STEPS, STEPS + 1)])
def test_what_was_resumed_is_what_was_never_stopped(animate, stopping, tmp_path, capsys, stops):
    assert animate("whole.mp4", "--compare") == 0
    for number, steps in enumerate(stops):
        stop_after(stopping, steps)
        assert animate("parts.mp4", "--compare", *["--resume"] * (number > 0)) == 130
        said = capsys.readouterr().err
        assert "kept in" in said and "--resume" in said and not (tmp_path / "parts.mp4").exists()
    stop_after(stopping, 10**9)
    assert animate("parts.mp4", "--compare", "--resume") == 0
    finished = sum(steps // STEPS for steps in stops)
    assert stopping["steps"] == (6 - finished) * STEPS  # no finished clip was made again
    assert (tmp_path / "parts.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert report(tmp_path, "parts.mp4") == report(tmp_path, "whole.mp4")
    assert sorted(p.name for p in tmp_path.glob("parts.*")) == sorted(
        p.name.replace("whole", "parts") for p in tmp_path.glob("whole.*")
    )


def test_only_the_same_job_is_resumed(animate, stopping, tmp_path, capsys):
    stop_after(stopping, 2 * STEPS + 1)
    assert animate("a.mp4") == 130 and "2 finished clips kept" in capsys.readouterr().err
    stop_after(stopping, 10**9)
    for other, says in (
        (["--seed", "1"], "seed 0, not 1"),
        (["--method", "hicache"], "method 'synccache', not 'hicache'"),
        (["--set", "max_gap=2"], "settings"),
        (["--image", str(tmp_path / "portrait2.png")], "image"),
    ):
        Image.fromarray(data.astronaut()[:301, 80:380]).save(tmp_path / "portrait2.png")
        assert animate("a.mp4", "--resume", *other) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and says in said and said.count("\n") == 1
    assert stopping["steps"] == 0 and len(list((tmp_path / "a.mp4.resume").iterdir())) == 3


def test_a_new_start_points_to_what_was_left_and_replaces_it(animate, stopping, tmp_path, capsys):
    stop_after(stopping, 2 * STEPS + 1)
    assert animate("a.mp4") == 130
    stop_after(stopping, 1)
    assert animate("a.mp4", "--seed", "1") == 130
    assert "holds 2 finished clips" in capsys.readouterr().err
    stop_after(stopping, STEPS + 1)
    assert animate("a.mp4", "--seed", "1") == 130  # the first new clip takes the place of both
    assert len(list((tmp_path / "a.mp4.resume").iterdir())) == 2
    stop_after(stopping, 10**9)
    assert animate("a.mp4", "--seed", "1", "--resume") == 0 and stopping["steps"] == 2 * STEPS
    assert not (tmp_path / "a.mp4.resume").exists()


def test_a_damaged_clip_is_made_again(animate, stopping, tmp_path):
    assert animate("whole.mp4") == 0
    stop_after(stopping, 2 * STEPS + 1)
    assert animate("a.mp4") == 130
    (tmp_path / "a.mp4.resume" / "cached-0001.safetensors").write_bytes(b"nothing")
    stop_after(stopping, 10**9)
    assert animate("a.mp4", "--resume") == 0 and stopping["steps"] == 2 * STEPS
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_nothing_to_resume_is_a_new_start(animate, stopping, tmp_path):
    assert animate("a.mp4", "--resume") == 0 and stopping["steps"] == 3 * STEPS
