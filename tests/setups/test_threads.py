"""Two generations at once: each in its thread, with a model of its own or sharing one."""

import sys
import threading

import torch

import synccache
from synccache import Method
from synccache.forecasters import Reuse
from synccache.gates import Interval
from synccache.scopes import WholeStack
from synccache.testing import AddModel, Pipeline, Video

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


def test_bytes_are_counted_while_other_threads_store():
    """The interpreter turns to another thread as often as it can, so also in the middle of a count."""
    model, x, level = AddModel(), torch.ones(1, 2, 3), torch.tensor(1.0)
    before, done, counts = sys.getswitchinterval(), threading.Event(), []
    anatomy = synccache.Anatomy("add", tuple(model.blocks))
    with synccache.cached(model, Method(Interval(2), WholeStack(), Reuse()), anatomy=anatomy) as handle:

        def generate(_):
            with torch.no_grad():
                for request in range(500):
                    with handle.at(request=request):
                        model(x, torch.tensor([1000.0]), level)
            done.set()

        def count(_):
            while not done.is_set():
                counts.append(handle.bytes)

        sys.setswitchinterval(1e-6)
        try:
            in_threads(generate, count)
        finally:
            sys.setswitchinterval(before)
            done.set()
        assert handle.bytes == 500 * x.numel() * 4
        assert counts == sorted(counts) and len(counts) > 100
