"""Where things stand: methods in short files, and nothing about them in the engine."""

import re
from pathlib import Path

import pytest

import synccache
from synccache.methods import RECIPES

SOURCE = Path(synccache.__file__).parent
# Words of the language, or the package's.
WORDS = {"synccache", "none", "linear", "interval", "schedule", "asymmetric", "first-block", "fewer-steps"}


@pytest.mark.parametrize("name", RECIPES)
def test_a_method_is_one_file(name):
    file = SOURCE / "methods" / f"{name.replace('-', '_')}.py"
    assert f'name="{name}"' in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("file", sorted((SOURCE / "methods").glob("*.py")), ids=lambda f: f.stem)
def test_files_of_methods_are_short(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize("file", sorted((SOURCE / "engine").glob("*.py")), ids=lambda f: f.stem)
def test_the_engine_names_no_method(file):
    names = "|".join(re.escape(n).replace("\\-", "[-_ ]") for n in RECIPES if n not in WORDS)
    assert not re.findall(rf"\b({names})\b", file.read_text(encoding="utf-8").lower())


PARTS = ("gates", "scopes", "forecasters")
# What each of them, and what they stand on, may import of the package beside itself.
MAY_IMPORT = {"engine": {"errors"}, **{part: {"engine", "errors"} for part in (*PARTS, "anatomies")}}


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports_point_one_way(part):
    text = "".join(file.read_text(encoding="utf-8") for file in (SOURCE / part).glob("*.py"))
    imported = set(re.findall(r"^\s*from (?:\.\.|synccache\.)(\w+)", text, re.MULTILINE))
    assert imported and imported <= MAY_IMPORT[part]
