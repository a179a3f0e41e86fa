"""Two generations at once: each in its thread, with a model of its own or sharing one."""

import threading

import pytest
import torch

import synccache
from synccache.engine.store.anchors import History
from synccache.engine.store.session import Session
from synccache.engine.types import Region
from synccache.testing import Pipeline, Video

STEPS = 12


def in_threads(*jobs):
    """Run the jobs at the same time, step by step in turn; gives their results, or raises the first error."""
    barrier, results, errors = threading.Barrier(len(jobs)), [None] * len(jobs), []

    def run(index: int) -> None:
        try:
            results[index] = jobs[index](lambda _: barrier.wait(timeout=60))
        except Exception as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def test_two_pipelines_with_a_model_each():
    pipes = {seed: Pipeline(Video(seed=seed)) for seed in (1, 2)}  # made here: the seed is the whole process's

    def job(seed: int):
        def generate(on_step=None):
            with synccache.cached(pipes[seed], "synccache") as handle:
                return pipes[seed](steps=STEPS, seed=seed, on_step=on_step), handle.trace.decisions()

        return generate

    expected = [job(seed)() for seed in pipes]
    for (out, decisions), (alone, decided) in zip(in_threads(*map(job, pipes)), expected, strict=True):
        assert torch.equal(out, alone) and decisions == decided
        assert "skipped" in decisions


def test_two_pipelines_that_share_a_transformer():
    model = Video()
    anatomy = synccache.Anatomy("video", tuple(model.blocks), sites=(0, 2))
    settings = {"interval": 3, "decoupled": True, "steps": STEPS, "anatomy": anatomy}
    expected = []
    for seed in (1, 2):
        with synccache.cached(model, "interval", **settings):
            expected.append(Pipeline(model)(steps=STEPS, seed=seed))
    before = [b.calls for b in model.blocks]
    with synccache.cached(model, "interval", **settings) as handle:

        def job(seed: int):
            def generate(on_step):
                with handle.request(seed):
                    return Pipeline(model)(steps=STEPS, seed=seed, on_step=on_step)

            return generate

        for out, alone in zip(in_threads(job(1), job(2)), expected, strict=True):
            assert torch.equal(out, alone)
        requests = [r.request for r in handle.trace.records]
        assert requests.count(1) == requests.count(2) == 2 * STEPS
        assert handle.trace.skipped() > 0
        ran = sum(r.decision == "computed" for r in handle.trace.records)
        assert [b.calls - n for b, n in zip(model.blocks, before, strict=True)] == [ran] * 5


@pytest.mark.parametrize("what", ["anchor", "request"])
def test_bytes_are_counted_while_another_thread_stores(what):
    """The other thread's turn comes, as it may, in the middle of the count."""
    with synccache.cached(Video(), "none") as handle:
        session = handle.engine.session()

        class Interrupted(History):
            @property
            def bytes(self) -> int:
                if what == "anchor":
                    session.history(0, "another", Region("blocks 1-2", (1, 2)), "x", 1)
                else:
                    handle.engine.sessions["another"] = Session("another", False)
                return 7

        session.held[0, None, "blocks 0-1"] = {"x": Interrupted(1)}
        assert handle.bytes == 7
