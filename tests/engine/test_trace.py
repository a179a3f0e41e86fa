"""The trace: records, counts, table, JSON, picture; and what ranks agree on."""

import json

import pytest
import torch
from calls import cached

from synccache import InputError, Trace
from synccache.testing import Pipeline, Video


@pytest.fixture(scope="module")
def traced():
    pipe, steps = Pipeline(Video()), []
    with cached(pipe, "synccache", threshold=0.3) as handle:
        handle.on_step = steps.append
        pipe()
        pipe(steps=12)
    return handle.trace, steps


def test_counts_by_run(traced):
    trace, steps = traced
    assert trace.runs == [(None, 0), (None, 1)] and len(trace) == 2 * (20 + 12) == len(list(trace))
    for run, total in ((0, 20), (1, 12), (-1, 12)):
        assert trace.computed(run) + trace.skipped(run) == total == len(trace.steps(run)) == len(trace.errors(run))
    assert 0 < trace.computed(0) < 20
    assert trace.decisions(0)[0] == trace.decisions(0)[-1] == "computed"
    assert steps == trace.records


def test_records_hold_what_happened(traced):
    trace, _ = traced
    first, *rest = trace.steps(0)
    assert (first.step, first.timestep, first.reason, first.error) == (0, 1000.0, "nothing to compare with", None)
    assert all(r.error > 0 for r in rest) and all(r.seconds > 0 for r in trace)
    total = 0.0
    for r in rest:
        total += r.error
        assert r.total == pytest.approx(total)
        total = 0.0 if r.decision == "computed" else total
        assert (r.decision == "computed") == (r.total > 0.3 or r.reason in ("warm-up", "last", "no anchors"))
    assert [r.timestep for r in trace.steps(0)] == sorted((r.timestep for r in trace.steps(0)), reverse=True)


def test_to_json_is_plain(traced):
    trace, _ = traced
    rows = json.loads(json.dumps(trace.to_json()))
    assert len(rows) == len(trace)
    assert set(rows[0]) == {
        "run", "step", "evaluation", "branch", "decides", "expert", "request", "window", "timestep", "decision",
        "reason", "error", "total", "seconds", "bytes", "probe_bytes", "share",
    }  # fmt: skip


def test_summary(traced):
    trace, _ = traced
    lines = trace.summary().splitlines()
    assert lines[1].split()[:4] == ["0", "20", str(trace.computed(0)), str(trace.skipped(0))]
    assert lines[2].split()[:2] == ["1", "12"]
    bar = lines[-2].split()[2]
    assert bar[0] == "#" and bar.count("#") == trace.computed() and bar.count(".") == trace.skipped()
    counts = {reason: int(number) for reason, _, number in (r.rpartition(" ") for r in lines[-1][9:].split(", "))}
    assert lines[-1].startswith("reasons: ") and counts == trace.reasons() and sum(counts.values()) == trace.computed()
    assert Trace().summary().startswith("No step was traced: nothing was called yet, or autograd was recording")


def test_plot(traced, tmp_path):
    trace, _ = traced
    path = trace.plot(tmp_path / "trace.png")
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000
    with pytest.raises(InputError, match="nothing to plot"):
        Trace().plot(tmp_path / "none.png")


def test_an_error_in_on_step_reaches_the_caller_and_leaves_nothing():
    pipe = Pipeline(Video())
    with cached(pipe, "synccache") as handle:
        handle.on_step = lambda record: 1 / 0
        with pytest.raises(ZeroDivisionError):
            pipe()
        assert handle.bytes == 0
        handle.on_step = None
        pipe()
        assert handle.trace.skipped() > 0


def test_ranks_add_numerators_and_denominators_over_the_given_group_only(monkeypatch):
    from synccache.anatomies.ranks import agree

    asked = []

    def all_reduce(tensor, group=None):
        asked.append(group)
        tensor += torch.tensor([[3.0, 6.0]])

    sums = torch.tensor([[1.0, 2.0]])
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    assert agree(sums, None) is sums and asked == []  # independent requests are never mixed
    assert agree(sums, "mine").tolist() == [[4, 8]] and asked == ["mine"]
    assert agree(sums, "world").tolist() == [[4, 8]] and asked == ["mine", None]
    assert sums.tolist() == [[1, 2]]
