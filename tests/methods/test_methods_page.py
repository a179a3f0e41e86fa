"""What is said about methods agrees with what they are: the page, the JSON, and the tensors counted."""

import importlib.util
import json
import weakref
from collections import Counter
from pathlib import Path

import pytest
import torch

import synccache
from synccache.cli import main
from synccache.core.types import innermost
from synccache.inspection.stored import COUNTED, held, stored_tensors
from synccache.portrait.pipeline import PortraitPipeline
from synccache.portrait.transformer import PortraitConfig, PortraitTransformer

ROOT = Path(__file__).parents[2]
TINY = PortraitConfig(
    image_size=32, patch_size=8, overlap=2, dim=32, ffn_dim=48, heads=2, layers=4, inject_after=(0, 1, 3), frames=4
)


def test_the_page_is_what_the_recipes_say():
    spec = importlib.util.spec_from_file_location("methods_page", ROOT / "tools" / "methods_page.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    written = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert tool.page() == written, "out of date: run python tools/methods_page.py"
    assert all(f"\n## {name}\n" in written for name in synccache.methods())


def test_json_lists_every_method_with_what_it_holds(capsys):
    assert main(["methods", "--json"]) == 0
    listed = {m["name"]: m for m in json.loads(capsys.readouterr().out)}
    assert set(listed) == set(synccache.methods())
    for method in listed.values():
        assert {"paper", "year", "gate", "scope", "forecaster", "needs"} <= set(method)
        assert set(method["cached_tensors"]) == set(COUNTED)
    sites, kept = {"portrait": 9, "wan2.2-s2v-14b": 12}, {"portrait": 3, "wan2.2-s2v-14b": 4}
    for model in COUNTED:  # min(S, max(1, floor(0.4 L_a))), one anchor; two, or three, with forecasts
        assert listed["synccache"]["cached_tensors"][model] == {
            "anchors": kept[model],
            "guidance": 0,
            "lead": 0,
            "gate": 1,
        }
        assert listed["synccache-cfg"]["cached_tensors"][model] == {
            "anchors": 2 * kept[model],
            "guidance": 2,
            "lead": 1,
            "gate": 1,
        }
        assert listed["foca"]["cached_tensors"][model]["anchors"] == 3 * sites[model]
        assert listed["none"]["cached_tensors"][model]["anchors"] == 0


RECIPES = synccache.methods()
UNLEARNT = [name for name, recipe in RECIPES.items() if recipe.paper != "control" and recipe.learn is None]
# What can't be left out.
TOLD = {"schedule": {"schedule": [0, 1, 2, 5, 9]}, "dbcache": {"front": 1, "back": 1}}


def run_and_count(pipe, method, steps, **given):
    """What a run of the tiny pipeline holds before its last call, which frees it, and what was counted."""
    size, dim = pipe.transformer.config.image_size, 64
    with synccache.cached(pipe, method, **given) as handle:
        stored, counts, sizes = [], [], []
        handle.on_store = lambda value: stored.append((value.branch, weakref.ref(value.value))) or True
        watched = len(innermost(handle.method.gate).measure.watches)

        def look(record):
            alive = [(branch, tensor()) for branch, tensor in stored if tensor() is not None]
            by = Counter(branch for branch, _ in alive)
            lead = record.bytes > sum(value.nbytes for _, value in alive)
            sizes.append(record.probe_bytes / watched if watched else 1)  # one tensor of each, after the first call
            counts.append((sorted(by.values(), reverse=True), int(lead), record.probe_bytes / sizes[0]))

        handle.on_step = look
        audio = torch.zeros(1, pipe.transformer.config.frames, 5, dim)
        pipe.denoise(torch.zeros(1, 3, size, size), audio, steps=steps, guidance_scale=2.0, seeds=[0])
        wanted = held(handle)
    branches = [wanted["anchors"], wanted["guidance"] or wanted["anchors"]]
    return counts[-2], ([n for n in branches if n], wanted["lead"], wanted["gate"])


@pytest.mark.parametrize("method", [*UNLEARNT, *(m for m in TOLD if m not in UNLEARNT)])
def test_the_count_is_what_a_run_holds(method):
    pipe = PortraitPipeline(PortraitTransformer(TINY).eval())
    told = TOLD.get(method, {})
    if "threshold" in RECIPES[method].settings:  # goes by the content: a few steps computed, and then none
        told = told | {"threshold": 1e9, "warmup": 5, "last": 0}
    found, counted = run_and_count(pipe, method, 40, **told)
    assert found == counted


def test_the_count_with_a_shipped_profile_is_what_a_run_holds():
    """Of the method that holds one tensor for each computed step; of the others it is the forecaster's number."""
    pipe = PortraitPipeline.load()
    found, counted = run_and_count(pipe, "l2p", 40)
    assert found == counted
    assert stored_tensors(RECIPES["l2p"], "portrait")["anchors"] == found[0][0] == 11
