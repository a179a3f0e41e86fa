"""What the program imports before it has to: torch and the media libraries take seconds, so a glance needs none."""

import json
import subprocess
import sys

import pytest

from synccache.cli import COMMANDS, catalogue, main
from synccache.methods import RECIPES

HEAVY = {"torch", "numpy", "diffusers", "matplotlib", "cv2", "scipy", "av", "skimage", "PIL", "safetensors"}
RUN = f"""
import contextlib, io, sys
from synccache.cli import main
with contextlib.redirect_stdout(io.StringIO()) as out:
    code = main(sys.argv[1:])
print(code, len(out.getvalue()) > 5, sorted({HEAVY} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("--version", 0),
        ("--help", 0),
        *((f"{name} --help", 0) for name in COMMANDS),
        ("methods", 0),
        ("methods HiCache", 0),
        ("methods hicache --json", 0),
        ("methods --json", 0),
        ("methods hicash", 2),
        ("inspect", 0),
        ("animate --image nosuch.png --audio nosuch.wav --out x.mp4", 2),
        ("animate --device tpu", 2),
        ("profile --method magcache --out x.safetensors --image nosuch.png", 2),
    ],
)
def test_a_glance_imports_nothing_heavy(arguments, code, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments.split()], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split(maxsplit=2) == [str(code), str(code == 0), "[]\n"], done.stderr


def test_the_package_itself_imports_nothing_heavy_and_has_all_its_names():
    code = f"""
import sys, synccache
assert not {HEAVY} & set(sys.modules)
import synccache.methods.recipe  # the package must not take the place of the function
assert set(synccache.__all__) <= set(dir(synccache)) and "hicache" in synccache.methods()
assert all(getattr(synccache, name).__name__ == name for name in synccache.__all__ if name != "__version__")
from synccache import *
assert cached is synccache.cached and methods is synccache.methods and InputError is synccache.errors.InputError
assert synccache.gates.Interval and not hasattr(synccache, "nosuch")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_listed_methods_are_the_recipes(monkeypatch, capsys):
    """The file says what the recipes say; where it is of other source code, they are asked."""
    assert catalogue.listed() == json.loads(json.dumps(catalogue.described_anew())), "run python tools/methods_page.py"
    assert [row["name"] for row in catalogue.listed()] == list(RECIPES)
    monkeypatch.setattr(catalogue, "source", lambda: "of another version")
    monkeypatch.setattr(catalogue, "described_anew", lambda: [{"name": "new"}])
    assert catalogue.listed() == [{"name": "new"}]


def test_the_file_of_methods_is_of_this_source():
    import importlib.resources

    text = (importlib.resources.files("synccache") / "methods" / "data" / catalogue.NAME).read_text(encoding="utf-8")
    assert json.loads(text)["source"] == catalogue.source(), "run python tools/methods_page.py"


def test_one_method_is_shown_whatever_its_case(capsys):
    assert main(["methods", "SyncCache"]) == 0
    said = capsys.readouterr().out
    assert "ECCV 2026" in said and "cache_ratio     0.4" in said and "-m synccache" in said
    assert main(["methods", "SYNCCACHE", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == "synccache" and found["settings"] == dict(RECIPES["synccache"].settings)
    assert main(["methods", "sinccache"]) == 2 and "Did you mean 'synccache'" in capsys.readouterr().err


def test_the_shell_is_told_what_may_follow():
    ask = {"_SYNCCACHE_COMPLETE": "complete_bash", "COMP_WORDS": "synccache animate --method taylor", "COMP_CWORD": "3"}
    import os

    done = subprocess.run(
        [sys.executable, "-m", "synccache"], env={**os.environ, **ask}, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["taylorseer", "taylorseer-lite"], done.stderr
