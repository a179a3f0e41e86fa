"""With torch, safetensors and numpy alone: what works, and how the rest says what it needs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import synccache
from synccache.extras import PACKAGES

ROOT = Path(__file__).parents[1]
WITHOUT = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
"""
OPTIONAL = [*PACKAGES, "accelerate", "transformers", "peft", "huggingface_hub"]


def python(code, *arguments, blocked=OPTIONAL):
    source = WITHOUT.format(blocked=set(blocked)) + code
    return subprocess.run([sys.executable, "-c", source, *arguments], capture_output=True, text=True, check=False)


def test_a_method_is_applied_with_the_core_alone():
    done = python("""
import torch, synccache
from synccache.testing import WanModel_S2V, s2v_inputs
model = WanModel_S2V().eval()
mask = torch.zeros(4, 4)
mask[1:3] = 1
with torch.no_grad(), synccache.cached(model, "synccache", computed_steps=4, steps=8, mask=mask) as handle:
    for step in range(8):
        with handle.at(step=step, total=8):
            model(**vars(s2v_inputs()), t=torch.tensor([1000.0 - 100 * step]))
print(handle.trace.decisions().count("computed"), len(synccache.methods()))
assert not {"diffusers", "scipy", "PIL", "typer"} & set(sys.modules)
""")
    assert done.stdout.split() == ["4", str(len(synccache.methods()))], done.stderr


def test_a_script_is_run_with_the_core_alone(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("""
import torch
from synccache.testing import WanModel_S2V, s2v_inputs
model, timesteps = WanModel_S2V().eval(), torch.linspace(1000, 50, 12)
with torch.no_grad():
    for t in timesteps:
        model(**vars(s2v_inputs()), t=t[None])
""")
    code = "import sys\nsys.argv[0] = 'synccache'\nfrom synccache.__main__ import main\nsys.exit(main())"
    report = tmp_path / "report"
    options = ("run", "--method", "synccache", "--set", "computed_steps=5", "--report", str(report), "--", str(script))
    done = python(code, *options)
    assert done.returncode == 0, done.stderr
    assert "5 of 12 steps computed" in done.stderr and "matplotlib" in done.stderr
    assert sorted(f.name for f in report.iterdir()) == ["report.json", "trace.json"]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import synccache.media.video", "Reading and writing .* needs Pillow and PyAV and .*'synccache[portrait]'"),
        ("from synccache.masks.person import person_mask", "Finding the person in a photo needs .*opencv"),
        ("from synccache.portrait.pipeline import PortraitPipeline", "The portrait model needs .*diffusers"),
        ("from synccache.core.mask import checked_mask; checked_mask('person.png')", "mask .*needs Pillow"),
        ("from synccache import Trace; Trace().plot('x.png')", "A plot needs matplotlib: pip install 'synccache[port"),
        ("from synccache.inspection import inspect; inspect('flux.1-dev')", "Transformer2DModel needs diffusers: pip"),
        ("import synccache.metrics.fidelity", "needs scikit-image: pip install 'synccache[portrait]'"),
    ],
)
def test_what_is_missing_is_said_by_name_where_it_is_used(code, says):
    done = python(code)
    assert done.returncode == 1
    assert re.search(says.replace("[", r"\["), done.stderr.strip().splitlines()[-1]), done.stderr


def test_the_program_says_what_it_needs_itself():
    run = "from synccache.__main__ import main; sys.exit(main())"
    done = python(run, "methods")
    assert done.returncode == 2
    assert done.stderr == "error: The command line needs rich and typer: pip install 'synccache[cli]'\n"
    media = [name for name, (_, extra) in PACKAGES.items() if extra == "portrait"]
    assert "hicache" in python(run, "methods", blocked=media).stdout
    done = python(run, "animate", blocked=media)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: The portrait model needs") and "'synccache[portrait]'" in done.stderr


def test_every_package_is_in_the_extra_that_is_named():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = {
        "cv2": "opencv-python-headless",
        "PIL": "pillow",
        "skimage": "scikit-image",
        "pillow_heif": "pillow-heif",
    }
    for module, (_, extra) in PACKAGES.items():
        (listed,) = re.findall(rf"^{extra} = \[(.*?)\]", text, re.DOTALL | re.MULTILINE)
        assert f'"{project.get(module, module).replace("_", "-")}>=' in listed


def test_the_long_description_has_no_relative_links():
    assert not re.findall(r"\]\((?!https?://)", (ROOT / "docs" / "pypi.md").read_text(encoding="utf-8"))
