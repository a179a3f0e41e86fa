"""README's own lines are run: the Python block as it stands, and the command."""

import re
import shlex
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synccache.cli import main
from synccache.portrait.pipeline import PortraitPipeline
from synccache.portrait.transformer import PortraitConfig, PortraitTransformer

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
(PYTHON,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
(ANIMATE,) = re.findall(r"^\.venv/bin/synccache (animate .*)$", README, re.MULTILINE)
TINY = PortraitConfig(
    image_size=32, patch_size=8, frames=2, motion_frames=1, dim=32, heads=2, layers=3, ffn_dim=32, inject_after=(0, 1)
)


@pytest.fixture(scope="module")
def tiny():
    return PortraitTransformer(TINY)


@pytest.mark.parametrize("mask", ["path", "picture", "array"])
def test_the_python_block_runs_with_any_kind_of_mask(tiny, tmp_path, mask, capsys):
    picture = Image.fromarray(np.eye(32, dtype=np.uint8) * 255)
    picture.save(tmp_path / "person.png")
    person = {"path": tmp_path / "person.png", "picture": picture, "array": np.asarray(picture)}[mask]
    photo, speech = np.full((32, 32, 3), 100, np.uint8), np.sin(np.arange(2400) / 9).astype(np.float32)
    exec(PYTHON, {"pipe": PortraitPipeline(tiny), "portrait": photo, "speech": speech, "person": person})
    assert "latest run: ####" in capsys.readouterr().out


def test_the_command_runs(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.save(tmp_path / "tiny.safetensors")
    Image.effect_noise((64, 64), 60).convert("RGB").save("portrait.jpg")
    with wave.open("speech.wav", "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes((np.sin(np.arange(4000) / 7) * 9000).astype(np.int16).tobytes())
    small = ["--model", "tiny.safetensors", "--size", "64", "--steps", "4", "--no-crop"]
    assert main([*shlex.split(ANIMATE), *small]) in (0, None)
    assert Path("talk.mp4").stat().st_size > 0
