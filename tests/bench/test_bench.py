"""The harness: complete rows, honest arithmetic, resumption."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synccache.bench import ideal_speedup, run
from synccache.bench.contenders import ABLATIONS, CORE, QUICK, REFERENCE, Contender
from synccache.bench.report import compared, summarise
from synccache.errors import InputError
from synccache.portrait.transformer import PortraitConfig, PortraitTransformer

TINY = PortraitConfig(
    image_size=32, patch_size=8, overlap=2, dim=32, ffn_dim=48, heads=2, layers=4, inject_after=(0, 1, 3), frames=4
)
CONTENDERS = (
    Contender(REFERENCE),
    Contender("fewer-steps 10", steps=10, control=True, curve="fewer-steps"),
    Contender("fewer-steps 20", steps=20, control=True, curve="fewer-steps"),
    Contender("still picture", None, control=True),
    Contender("silence", control=True, speech="silence"),
    Contender("none again", "none", curve="none"),
    Contender("interval 1/4", "interval", {"interval": 4}, curve="interval"),
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    model = PortraitTransformer(TINY)
    torch.nn.init.normal_(model.change_out.weight, std=0.02)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def measured(weights, tmp_path_factory):
    out = tmp_path_factory.mktemp("bench")
    return out, run("core", out, clips=1, model=weights, contenders=CONTENDERS)


def test_every_contender_has_a_row_for_every_clip(measured):
    out, document = measured
    assert {(r["clip"], r["contender"]) for r in document["rows"]} == {(0, c.label) for c in CONTENDERS}
    stored = json.loads((out / "bench.json").read_text(), parse_constant=lambda _: pytest.fail("not finite"))
    assert stored["summary"] == document["summary"]
    assert (out / "bench.png").stat().st_size > 10_000
    text = (out / "bench.md").read_text()
    assert "*still picture*" in text and "| none again" in text


def test_an_uncached_run_equals_the_reference_and_a_control_does_not(measured):
    rows = {r["contender"]: r for r in measured[1]["rows"]}
    assert rows["none again"]["psnr_mouth_db"] == 100 and rows["none again"]["opening_rms"] == 0
    assert rows["silence"]["psnr_mouth_db"] < 100 and rows["still picture"]["psnr_mouth_db"] < 100
    assert rows["interval 1/4"]["computed_steps"] + rows["interval 1/4"]["skipped_steps"] == 40
    assert rows["interval 1/4"]["computed_steps"] < 20 and rows["interval 1/4"]["bytes"] > 0


def test_a_stopped_benchmark_goes_on_with_the_rows_it_has(measured, weights):
    out, document = measured
    seen = []
    again = run("core", out, clips=1, model=weights, contenders=CONTENDERS, on_progress=lambda *a: seen.append(a))
    assert [a[2] for a in seen] == ["report"]
    assert [r["seconds"] for r in again["rows"]] == [r["seconds"] for r in document["rows"]]


def test_another_documents_folder_is_refused(tmp_path, weights):
    (tmp_path / "bench.json").write_text("{}")
    with pytest.raises(InputError, match="holds rows with the schema None"):
        run("core", tmp_path, clips=1, model=weights)
    with pytest.raises(InputError, match="There are: ablations, core"):
        run("cor", tmp_path)


def test_rows_of_other_weights_are_not_taken_over(measured, weights, tmp_path):
    model = PortraitTransformer.load(weights)
    torch.nn.init.normal_(model.change_out.weight, std=0.03)
    model.save(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"holds rows with the model 'tiny.safetensors \(sha256"):
        run("core", measured[0], clips=1, model=tmp_path / "other.safetensors", contenders=CONTENDERS)


@given(st.integers(1, 40), st.floats(0.01, 0.99))
def test_the_ideal_speedup_lies_between_none_and_the_step_ratio(computed, share):
    found = ideal_speedup(40, computed, 1.0, share)
    assert 1 - 1e-9 <= found <= 40 / computed + 1e-9
    assert ideal_speedup(40, 10, 1.0, 0.0) == 4


def row(clip, contender, speedup, mouth, computed=10):
    own = {"clip": clip, "contender": contender, "computed_steps": computed}
    return {**own, "speedup": speedup, "psnr_mouth_db": mouth}


def test_gain_is_measured_against_fewer_steps_at_the_same_wall_clock():
    chosen = [
        Contender("fewer-steps 10", steps=10, control=True, curve="fewer-steps"),
        Contender("fewer-steps 20", steps=20, control=True, curve="fewer-steps"),
        Contender("ours", "synccache"),
    ]
    rows = [row(0, "fewer-steps 10", 4.0, 20.0), row(0, "fewer-steps 20", 1.0, 30.0), row(0, "ours", 2.0, 28.0)]
    ours = summarise(rows, chosen)[2]
    assert math.isclose(ours["gain_db"], 3.0)  # halfway between 1x and 4x in the logarithm: 25 dB
    rows[2]["speedup"] = 0.9  # slower than all that there is to compare with
    assert summarise(rows, chosen)[2]["gain_db"] is None


def test_a_skipped_step_is_compared_with_a_call_whose_skipped_blocks_do_nothing():
    costs = [(0.2, 0.19), (0.25, 0.20), (0.3, 0.28)]
    rows = [row(c, "ours", 2.0, 28.0) | {"skipped_cost": s, "identity_call": i} for c, (s, i) in enumerate(costs)]
    assert math.isclose(summarise(rows, [Contender("ours", "synccache")])[0]["skipped_extra"], 0.02)


def test_ablations_are_paired_by_clip():
    chosen = [Contender("synccache", "synccache"), Contender("other", "synccache", {"mask_weight": 1.0})]
    rows = [row(c, "synccache", 3.0, 30.0 + 10 * c) for c in (0, 1)] + [
        row(c, "other", 3.0, 29.0 + 10 * c, 12) for c in (0, 1)
    ]
    (found,) = compared(rows, chosen, "synccache")
    assert found["difference_db"] == found["low"] == found["high"] == -1.0
    assert found["more_computed"] == 2


@pytest.mark.parametrize("suite", [CORE, QUICK, ABLATIONS])
def test_suites_have_a_reference_and_unique_labels(suite):
    labels = [c.label for c in suite]
    assert len(labels) == len(set(labels)) and REFERENCE in labels
    if suite is CORE:
        assert sum(c.curve == "fewer-steps" for c in suite) >= 8 and sum(c.control and not c.curve for c in suite) == 4
