"""The scripts and the notebook in ``examples`` run; all of them, with tiny random weights for checkpoints."""

import json
import runpy
import shutil
import sys

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from on_the_cpu import replacements
from PIL import Image
from running import process_of
from shell import ROOT, SCRIPTS, Call

from synccache.portrait.pipeline import PortraitPipeline
from synccache.portrait.transformer import PortraitConfig, PortraitTransformer

EXAMPLES = ROOT / "examples"
ARGUMENTS = {
    "s2v_official.py": ("portrait.jpg", "speech.wav", "talk.mp4", "--speed", "2"),
    "wan_text_to_video.py": ("A cat walks on the grass.",),
    "wan_image_to_video.py": ("portrait.jpg", "She smiles.", "--mask", "person.png"),
    "own_model.py": (),
}
MADE = {
    "s2v_official.py": ["talk.mp4"], "wan_text_to_video.py": ["cached.mp4", "uncached.mp4"],
    "wan_image_to_video.py": ["video.mp4"], "own_model.py": [],
}  # fmt: skip
TINY = PortraitConfig(
    image_size=48, patch_size=8, frames=12, motion_frames=1, dim=32, heads=2, layers=3, ffn_dim=32, inject_after=(0, 1)
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a photo and a mask, in a process without a GPU; Wan2.2's stand-in can be imported there."""
    for owner, name, value in replacements():
        monkeypatch.setattr(owner, name, value)
    shutil.copytree(SCRIPTS / "wan22", tmp_path, dirs_exist_ok=True)
    Image.effect_noise((64, 80), 60).convert("RGB").save(tmp_path / "portrait.jpg")
    Image.fromarray(np.eye(64, dtype=np.uint8) * 255).save(tmp_path / "person.png")
    return tmp_path


def test_every_example_is_run():
    assert sorted(p.name for p in EXAMPLES.iterdir() if p.is_file()) == sorted([*ARGUMENTS, "trace.ipynb"])


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_script_runs(name, folder, capsys):
    with process_of(Call(folder, {}, "python", ())):
        sys.argv[:] = [name, *ARGUMENTS[name]]
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    said = capsys.readouterr().out
    assert "latest run: #" in said and "." in said.split("latest run: ")[-1].split()[0]  # some steps were skipped
    assert all((folder / made).stat().st_size > 0 for made in MADE[name])


def test_own_model_needs_torch_alone():
    text = (EXAMPLES / "own_model.py").read_text(encoding="utf-8")
    imported = {line.split()[1].partition(".")[0] for line in text.splitlines() if line.startswith(("import", "from"))}
    assert imported == {"torch", "synccache"}


def test_the_notebook_runs(folder, monkeypatch, capsys):
    notebook = json.loads((EXAMPLES / "trace.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids) and {c["cell_type"] for c in notebook["cells"]} == {"markdown", "code"}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    torch.manual_seed(0)
    monkeypatch.setattr(PortraitPipeline, "load", lambda: PortraitPipeline(PortraitTransformer(TINY)))
    before, names = matplotlib.get_backend(), {}
    plt.switch_backend("Agg")
    try:
        with process_of(Call(folder, {}, "python", ())):
            for number, cell in enumerate(cells):
                exec(compile("".join(cell["source"]), f"trace.ipynb[{number}]", "exec"), names)
        assert len(plt.get_fignums()) == 3
    finally:
        plt.close("all")
        plt.switch_backend(before)
    said = capsys.readouterr().out
    assert "synccache-cfg on PortraitTransformer" in said and "skipped: " in said
