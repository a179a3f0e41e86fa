"""``torch.compile`` of the repeated blocks: nothing is compiled again per step, and skipped blocks run no graph."""

import pytest
import torch
from tiny import COMPUTED, STEPS, cached, denoise, tiny_wan

import synccache

BLOCKS = 5
RUNS = STEPS + len(COMPUTED) * (BLOCKS - 1)  # the probe on every step, the others on the computed ones


class Counting:
    """A compiler backend that runs a graph as it is; counts graphs and their runs."""

    def __init__(self) -> None:
        self.graphs = self.runs = 0

    def __call__(self, graph, _inputs):
        self.graphs += 1

        def run(*args):
            self.runs += 1
            return graph.forward(*args)

        return run


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compile_each(model, backend):
    for block in model.blocks:
        block.compile(backend=backend, fullgraph=True)


def compile_repeated(model, backend):
    model.compile_repeated_blocks(backend=backend, fullgraph=True)


@pytest.mark.parametrize(("first", "compiling"), [("cache", compile_each), ("compile", compile_repeated)])
def test_compiled_blocks_are_compiled_once(first, compiling):
    model, backend = tiny_wan(), Counting()
    plain = denoise(model)
    with cached(model):
        expected = denoise(model)
    if first == "compile":
        compiling(model, backend)
    with cached(model) as handle:
        if first == "cache":
            compiling(model, backend)
        torch.testing.assert_close(denoise(model), expected)
        assert handle.trace.computed() == len(COMPUTED)
        assert (backend.graphs, backend.runs) == (1, RUNS)
        denoise(model)
        assert (backend.graphs, backend.runs) == (1, 2 * RUNS)
    torch.testing.assert_close(denoise(model), plain)
    with cached(model):
        torch.testing.assert_close(denoise(model), expected)
    assert backend.runs == 3 * RUNS + STEPS * BLOCKS
    assert backend.graphs <= 2  # with and without the cache
    assert all(b._compiled_call_impl is not None for b in model.blocks)


def in_place(model, backend):
    model.compile(backend=backend)
    return model


def wrapped(model, backend):
    return torch.compile(model, backend=backend)


@pytest.mark.parametrize("compiling", [in_place, wrapped])
def test_a_model_compiled_as_a_whole_is_refused(compiling):
    model = tiny_wan(2)
    with pytest.raises(synccache.Conflict, match="compile_repeated_blocks"):
        synccache.apply(compiling(model, "eager"), "synccache")
    assert type(model) is type(tiny_wan(2))


@pytest.mark.parametrize("compiling", [in_place, wrapped])
def test_compiling_more_than_a_block_while_attached_is_refused(compiling):
    model, backend = tiny_wan(2), Counting()
    plain = denoise(model)
    with cached(model) as handle:
        compiled = compiling(model, backend)
        with pytest.raises(synccache.Conflict, match=r"part of something larger.*block\.compile"):
            denoise(compiled, stop=1)
        assert handle.bytes == 0
    assert torch.equal(denoise(model), plain)


def test_blocks_that_were_wrapped_before_attaching():
    """``torch.compile(block)`` in the list, as the releases' own code does it."""
    model, backend = tiny_wan(), Counting()
    with cached(model):
        expected = denoise(model)
    for index, block in enumerate(model.blocks):
        model.blocks[index] = torch.compile(block, backend=backend)
    with cached(model) as handle:
        torch.testing.assert_close(denoise(model), expected)
        graphs = backend.graphs
        denoise(model)
        assert handle.trace.skipped() > 0
        assert (backend.graphs, backend.runs) == (graphs, 2 * RUNS)
