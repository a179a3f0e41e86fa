"""The full-size benchmark at tiny shapes: what its numbers are made of, never how large they are."""

import json

import pytest
import torch

from synccache import cached
from synccache.anatomies import find
from synccache.bench import ideal_speedup
from synccache.bench.fullsize import SUBJECTS, default_schedule, measure
from synccache.bench.fullsize.command import main
from synccache.bench.fullsize.contenders import OURS
from synccache.bench.fullsize.report import table, text
from synccache.bench.fullsize.run import summarise
from synccache.bench.fullsize.subjects import model_at, prepare
from synccache.bench.fullsize.timed import _figures
from synccache.scopes import Segments

pytestmark = pytest.mark.filterwarnings("ignore:This run has")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def subjects():
    return {name: prepare(name, "tiny", CPU, torch.float32) for name in SUBJECTS}


@pytest.fixture(scope="module")
def measured():
    return measure(["wan2.2-s2v-14b", "flux.1-dev"], device="cpu", scale="tiny", steps=9, skip=[3, 4, 6, 7], repeats=2)


def rows(document, model):
    return {r["contender"]: r for r in document["rows"] if r["model"] == model}


def test_every_contender_computes_just_the_listed_steps(measured):
    assert measured["computed"] == [0, 1, 2, 5, 8] and measured["skipped"] == [3, 4, 6, 7]
    for model in ("wan2.2-s2v-14b", "flux.1-dev"):
        found = rows(measured, model)
        assert len(found) == len(OURS) + 2
        for row in found.values():
            assert "note" in row or row["computed"] == 5
        for who in OURS:
            entry = found[who.label]
            assert len(entry["seconds"]) == 2 and entry["of_ideal_range"][0] <= entry["of_ideal"]
            assert entry["untouched_seconds"] > entry["identity_seconds"] > 0
    assert rows(measured, "wan2.2-s2v-14b")["diffusers first-block cache"]["note"] == "does not know this model"
    assert "note" not in rows(measured, "flux.1-dev")["diffusers first-block cache"]


def test_stored_bytes_are_those_of_the_segments(measured, subjects):
    tokens = 2 * 16 + 16  # two latent frames and the reference
    regions = [len(Segments(r).regions(subjects["wan2.2-s2v-14b"].anatomy, 0)) for r in (1.0, 0.4)]
    assert regions == [4, 1]
    held = {label: row.get("cache_bytes") for label, row in rows(measured, "wan2.2-s2v-14b").items()}
    one = tokens * 48 * 4
    assert [held[w.label] for w in OURS] == [4 * one, one, 2 * 4 * one, 2 * one, one]


def test_the_document_is_finite_json_and_one_table(measured):
    again = json.loads(json.dumps(measured, allow_nan=False))
    lines = table(again).splitlines()
    assert len(lines) == 2 + 2 * (len(OURS) + 2) and {line.count("|") for line in lines} == {14}
    again["models"][0]["peak_bytes"] = 3 * 2**29
    assert table(again).splitlines()[2].endswith("| 1.50 |")
    said = text(again)
    assert "random weights" in said and "speed and memory only" in said


def test_figures_follow_the_formula():
    took = {"untouched": [4.0, 4.0, 9.0], "identity": [1.0], "computed": [5.0, 4.0, 5.0], "skipped": [1.5, 1.5]}
    found = _figures(took, 5, 7, None)
    assert found["computed"] == 3 and found["seconds"] == 17
    assert found["ideal"] == ideal_speedup(5, 3, 4.0, 1.0) == 20 / 14
    assert found["speedup"] == 20 / 18 and found["of_ideal"] == pytest.approx(14 / 18)
    entry = summarise([found, {**found, "of_ideal": 1.0, "cache_bytes": 9}, {**found, "of_ideal": 0.9}])
    assert entry["of_ideal"] == 0.9 and entry["of_ideal_range"] == [pytest.approx(14 / 18), 1.0]
    assert entry["cache_bytes"] == 9 and entry["peak_bytes"] is None
    assert entry["extra"] == (1.5 - 1.0) / 4.0


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_medium_builds_have_all_blocks(name):
    medium, full = model_at(name, "medium"), model_at(name, "full")
    medium.call.check(name, medium.size)
    assert len(find(medium.build()).blocks) == len(find(full.build()).blocks)


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_builds_are_cached_correctly(subjects, name):
    """Every segment kept, the same input twice: a skipped step gives what a computed one does."""
    subject = subjects[name]
    first = subject.at(0.5)
    with torch.no_grad(), cached(subject.network, "schedule", schedule=[0], steps=9) as handle:
        time = subject.model.call.timestep
        computed = leaf(subject.network(**first))
        skipped = leaf(subject.network(**{**first, time: first[time] * (1 - 1e-6)}))
        assert handle.trace.decisions() == ["computed", "skipped"]
    torch.testing.assert_close(skipped, computed, rtol=1e-3, atol=1e-4)


def leaf(output):
    while not isinstance(output, torch.Tensor):
        output = next(iter(output.values() if isinstance(output, dict) else output))
    return output


@pytest.mark.parametrize("name", SUBJECTS)
def test_an_idle_twin_runs_no_block_but_all_that_lies_between(subjects, name):
    subject = subjects[name]
    idle, ran = subject.idle_twin(), []
    for module in idle.modules():
        module.register_forward_hook(lambda module, *_: ran.append(type(module).__name__))
    with torch.no_grad():
        assert leaf(idle(**subject.at(0.5))).shape == leaf(subject.network(**subject.at(0.5))).shape
    blocks = {type(block).__name__ for block in subject.anatomy.blocks}
    assert ran.count("Idle") == len(subject.anatomy.blocks) and not blocks & set(ran)
    injected = {"wan2.2-s2v-14b": "AdaIN", "hunyuanvideo-avatar": "PerceiverAttentionCA"}.get(name)
    assert ran.count(injected) == len(subject.anatomy.sites or ())


def test_a_twin_shares_the_weights_and_nothing_else(subjects):
    subject = subjects["flux.1-dev"]
    twin = subject.twin()
    assert {id(p) for p in twin.parameters()} == {id(p) for p in subject.network.parameters()}
    assert not {id(m) for m in twin.modules()} & {id(m) for m in subject.network.modules()}
    with cached(twin, "none"):
        assert not any("_call_impl" in vars(m) for m in subject.network.modules())
        assert any("_call_impl" in vars(m) for m in twin.modules())


def test_the_default_schedule_warms_up_and_ends_computed():
    assert default_schedule(40) == [0, 1, 2, 3, 7, 11, 15, 19, 23, 27, 31, 35, 39]
    assert default_schedule(10) == [0, 1, 5, 9]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--models", "wan2.1-t2v-1.3"], "Did you mean 'wan2.1-t2v-1.3b'?"),
        (["--scale", "smal"], "Did you mean 'small'?"),
        (["--skip", "0,1"], "0 is none of them"),
        (["--skip", "1;2"], "--skip takes"),
        (["--steps", "2"], "steps must lie"),
        (["--repeats", "0"], "repeats"),
        (["--clock", "sun"], "--clock"),
        (["--device", "tpu"], "cuda or cpu"),
        (["--sizes", "3"], "--sizes"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(capsys, arguments, says):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and says in said


def test_the_command_writes_both_files(tmp_path, capsys):
    arguments = ["--models", "wan2.1-t2v-1.3b", "--scale", "tiny", "--steps", "4", "--repeats", "1", "--json"]
    assert main([*arguments, "--device", "cpu", "--clock", "processor", "--out", str(tmp_path / "new")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "new" / "fullsize.json").read_text()) == said
    assert said["clock"] == "processor" and said["models"][0]["model"] == "wan2.1-t2v-1.3b"
    assert "wan2.1-t2v-1.3b" in (tmp_path / "new" / "fullsize.md").read_text()
    assert main(["--help"]) == 0 and "--models" in capsys.readouterr().out
