"""The page on new models: its code runs, its checks can fail, and it keeps its promise of 30 lines."""

import re
from pathlib import Path

import pytest

import synccache
from synccache.errors import UnsupportedModel

PAGE = (Path(__file__).parents[2] / "docs" / "new-model.md").read_text(encoding="utf-8")
MODEL, ANATOMY, CHECK = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def run(*parts):
    names = {}
    exec(compile("\n".join(parts), "docs/new-model.md", "exec"), names)
    return names


def test_the_code_of_the_page_runs_and_its_checks_hold():
    names = run(MODEL, ANATOMY, CHECK)
    assert names["handle"].trace.skipped() > 0


def test_thirty_lines_are_enough():
    assert len(ANATOMY.splitlines()) <= 30


def test_without_help_the_error_names_what_is_missing():
    model = run(MODEL)["Singer"]()
    with pytest.raises(UnsupportedModel, match="known as the timestep"):
        synccache.apply(model)


@pytest.mark.parametrize(
    ("right", "wrong", "error"),
    [
        ('"video": 1, "prompt": 0', '"video": 0, "prompt": 1', synccache.Notice),  # no block gives what it was given
        ("return t, h // 2, w // 2", "return t, h, w", synccache.Notice),
        ('latent="noisy"', 'latent="noise"', synccache.InputError),
    ],
)
def test_the_checks_of_the_page_find_a_wrong_anatomy(right, wrong, error):
    assert ANATOMY.count(right) == 1
    with pytest.raises(error):
        run(MODEL, ANATOMY.replace(right, wrong), CHECK)


def test_the_fields_on_the_page_exist():
    named = re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")))
    assert len(named) == len(set(named)) >= 10
    assert set(named) <= set(synccache.Anatomy.__dataclass_fields__)
