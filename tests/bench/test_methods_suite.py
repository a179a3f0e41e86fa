"""The methods suite: every recipe is in it, what it needs is learnt first, later clips get the timed one's seconds."""

import contextlib
import json

import pytest
import torch

from synccache.bench import of_methods, run
from synccache.bench.clip import measure_clip, shoot
from synccache.bench.contenders import REFERENCE, Contender, of_method
from synccache.bench.heldout import held_out
from synccache.bench.spread import _shares, as_timed
from synccache.bench.start import shared_start
from synccache.cli import main
from synccache.methods import RECIPES, complete, find
from synccache.portrait.pipeline import PortraitPipeline
from synccache.portrait.transformer import PortraitConfig, PortraitTransformer

TINY = PortraitConfig(
    image_size=32, patch_size=8, overlap=2, dim=32, ffn_dim=48, heads=2, layers=4, inject_after=(0, 1, 3), frames=4
)


@pytest.mark.parametrize("name", [n for n, r in RECIPES.items() if r.paper != "control"])
def test_every_method_stands_at_three_settings_that_it_takes(name):
    contenders = of_method(RECIPES[name])
    assert len({c.key for c in contenders}) == len({c.label for c in contenders}) >= 3
    for contender in contenders:
        complete(RECIPES[name], contender.settings, "portrait")


def test_the_suite_has_its_controls_and_unique_labels():
    for quick in (False, True):
        chosen = of_methods(RECIPES.values(), quick)
        assert len({c.label for c in chosen}) == len(chosen) and chosen[0].label == REFERENCE
        assert {"still picture", "another clip's audio"} <= {c.label for c in chosen if c.control and not c.curve}
        assert sum(c.curve == "fewer-steps" for c in chosen) >= 2
        assert {c.method for c in chosen} >= {n for n, r in RECIPES.items() if r.paper != "control"}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    torch.manual_seed(0)
    model, out = PortraitTransformer(TINY), tmp_path_factory.mktemp("methods")
    torch.nn.init.normal_(model.change_out.weight, std=0.02)
    model.save(out / "tiny.safetensors")
    chosen = of_methods([find(n) for n in ("interval", "l2p", "synccache+hicache")], quick=True)
    chosen += of_method(find("dicache"))[1:2]  # whose threshold is found first
    return out, chosen, run("methods", out, clips=2, model=out / "tiny.safetensors", contenders=chosen)


def test_every_clip_has_a_row_of_every_contender_and_the_seconds_of_the_timed_one(measured):
    out, chosen, document = measured
    rows = {(r["clip"], r["contender"]): r for r in document["rows"]}
    assert set(rows) == {(clip, c.label) for clip in (0, 1) for c in chosen}
    for label in ("interval 1/8", "l2p 1/8"):  # their steps don't hang on the clip
        assert rows[0, label]["computed_steps"] == rows[1, label]["computed_steps"] < 20
        assert rows[0, label]["seconds"] == rows[1, label]["seconds"]
        assert rows[0, label]["psnr_mouth_db"] != rows[1, label]["psnr_mouth_db"]
    assert 1 < rows[0, "dicache @8"]["computed_steps"] < 40
    assert {p.name for p in out.glob("profile-*")} == {"profile-fewer-steps.safetensors", "profile-l2p.safetensors"}
    assert "| l2p 1/8 |" in (out / "bench.md").read_text() and (out / "bench.png").stat().st_size > 10_000


def test_a_second_run_has_nothing_left_to_do(measured):
    out, chosen, document = measured
    again = run("methods", out, clips=2, model=out / "tiny.safetensors", contenders=chosen)
    assert json.dumps(again["rows"]) == json.dumps(document["rows"])


def test_a_shared_start_is_computed_once_and_changes_no_bit(measured):
    pipe = PortraitPipeline.load(measured[0] / "tiny.safetensors")
    person, other = held_out(2, TINY.frames, TINY.image_size)
    chosen = [
        Contender(REFERENCE),
        Contender("another clip's audio", control=True, speech="other"),
        Contender("whole blocks", "interval", {"interval": 7}),
        Contender("inside blocks", "taylorseer", {"interval": 7}),
    ]
    feed_forward, calls = pipe.transformer.blocks[1].ffn, []
    feed_forward.net[2].register_forward_pre_hook(lambda *_: calls.append(None))
    found, ran = [], []
    for about in (contextlib.nullcontext(), shared_start(pipe, person)):
        calls.clear()
        with about:
            found.append(measure_clip(pipe, person, other, chosen, timing="none"))
        ran.append(len(calls))
    for plain, shared in zip(*found, strict=True):
        for name in ("psnr_frame_db", "psnr_mouth_db", "opening", "computed_steps", "bytes"):
            assert plain[name] == shared[name]
    assert ran[1] <= ran[0] - 2 * 2 * 3  # two branches of two methods with a warm-up of three steps or more
    assert "forward" not in vars(feed_forward)


@pytest.mark.parametrize(
    ("method", "live"),
    [("interval", set()), ("synccache", {0}), ("delta-dit", None), ("taylorseer", None), ("none", None)],
)
def test_blocks_that_stay_live_are_known_where_all_others_are_left_out_together(measured, method, live):
    pipe = PortraitPipeline.load(measured[0] / "tiny.safetensors")
    person, other = held_out(2, TINY.frames, TINY.image_size)
    settings = {"threshold": 0.1} if method == "synccache" else {}
    assert shoot(pipe, person, other, Contender(method, method, settings)).live == live
    assert not any(block._forward_pre_hooks for block in pipe.transformer.blocks)


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_shares_hold_the_reference_each_and_everyone_else_once(count):
    chosen = [Contender("a"), Contender(REFERENCE), Contender("b"), Contender("c")]
    shares = [[c.label for c in share] for share in _shares(chosen, count)]
    assert len(shares) == min(count, 3) and all(REFERENCE in share for share in shares)
    assert sorted(label for share in shares for label in share) == sorted(["a", "b", "c", *[REFERENCE] * len(shares)])


def test_more_computed_steps_take_longer_by_what_a_computed_step_costs_over_a_skipped_one():
    def row(clip, contender, computed, skipped, seconds, speedup):
        own = {"clip": clip, "contender": contender, "computed_steps": computed, "skipped_steps": skipped}
        return {**own, "seconds": seconds, "speedup": speedup}

    rows = [row(0, REFERENCE, 40, 0, 40.0, 1.0), row(0, "a", 10, 30, 16.0, 2.5)]  # 1 s a computed step, 0.2 a skipped
    rows += [row(1, REFERENCE, 40, 0, 99.0, 1.0), row(1, "a", 15, 25, 77.0, 9.9)]
    found = as_timed(rows)
    assert [r["seconds"] for r in found] == pytest.approx([40, 16, 40, 20])
    assert found[3]["speedup"] == pytest.approx(2.0) and found[:2] == rows[:2]


def test_methods_can_be_chosen_for_this_suite_only(tmp_path, capsys):
    assert main(["bench", "--suite", "core", "--out", str(tmp_path), "--method", "foca"]) == 2
    assert main(["bench", "--suite", "methods", "--out", str(tmp_path), "--method", "fooca"]) == 2
    said = capsys.readouterr().err
    assert "chooses from the methods suite" in said and "Did you mean 'foca'" in said
