"""``torch.compile`` beside a cache: of blocks it works, of anything larger it is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from models import Noise, wan
from torch import Tensor, nn

import synccache
from synccache import Conflict, Method
from synccache.forecasters import Reuse
from synccache.gates import Listed
from synccache.scopes import Modules, Segments

X, TEXT = Noise(1)(1, 4, 3, 4, 6), Noise(5)(1, 5, 16)
BLOCKS = Method(Listed(frozenset({0})), Segments(), Reuse())
PARTS = Method(Listed(frozenset({0})), Modules(), Reuse())


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def call(model: Callable[..., Any], timestep: float = 900.0) -> Tensor:
    with torch.no_grad():
        return model(X, torch.tensor([timestep]), TEXT, return_dict=False)[0]


def compile_blocks(model: nn.Module) -> nn.Module:
    model.compile_repeated_blocks(backend="eager")
    return model


def in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


def wrapped(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")


def within_a_function(model: nn.Module) -> Callable[..., Any]:
    return torch.compile(lambda *args, **kwargs: model(*args, **kwargs), backend="eager")


@pytest.mark.parametrize("ran", [False, True], ids=["new", "already run"])
@pytest.mark.parametrize("first", ["cache", "compile"])
def test_modules_inside_compiled_blocks_are_refused(first: str, ran: bool) -> None:
    """A graph that is there already doesn't ask again for what stands in the modules: their hooks would be dead."""
    model = wan.build(layers=2)
    if first == "compile":
        compile_blocks(model)
        if ran:
            call(model)
        with pytest.raises(Conflict, match=r"inside a block that was compiled.*whole blocks"):
            synccache.apply(model, PARTS)
    else:
        with synccache.cached(model, PARTS) as handle:
            if ran:
                call(model, 1000.0)
            compile_blocks(model)
            with pytest.raises(Conflict, match=r"inside a block that was compiled.*whole blocks"):
                call(model)
            assert handle.bytes == 0
    plain = call(wan.build(layers=2))
    torch.testing.assert_close(call(model), plain)
    assert not any("_call_impl" in vars(m) for m in model.modules())


@pytest.mark.parametrize("compiling", [in_place, wrapped])
def test_a_whole_model_compiled_before_is_refused(compiling: Callable[[nn.Module], nn.Module]) -> None:
    with pytest.raises(Conflict, match="compile_repeated_blocks"):
        synccache.apply(compiling(wan.build(layers=2)), BLOCKS)


@pytest.mark.parametrize("method", [BLOCKS, PARTS], ids=["blocks", "modules"])
@pytest.mark.parametrize("compiling", [in_place, wrapped, within_a_function])
def test_a_whole_model_compiled_while_attached_is_refused(compiling: Callable, method: Method) -> None:
    model = wan.build(layers=2)
    plain = call(model)
    with synccache.cached(model, method) as handle:
        compiled = compiling(model)
        with pytest.raises(Conflict, match="compile_repeated_blocks"):
            call(compiled)
        assert handle.bytes == 0
    torch.testing.assert_close(call(compiled), plain)


def test_compiled_blocks_that_are_run_without_the_compiler() -> None:
    """As ``TORCHDYNAMO_DISABLE``, too many recompilations, or a debugger have it."""
    model = wan.build(layers=3)
    plain = call(model)
    with synccache.cached(model, BLOCKS) as handle:
        compile_blocks(model)
        with torch.compiler.set_stance("force_eager"):
            assert torch.equal(call(model, 900.0), plain)
            call(model, 890.0)
        call(model, 880.0)
        assert handle.trace.decisions() == ["computed", "skipped", "skipped"]
    with torch.compiler.set_stance("force_eager"):
        assert torch.equal(call(model), plain)


def test_a_block_compiled_into_the_list_while_attached_is_followed() -> None:
    """``torch.compile(block)`` makes another module; the released models' own code puts it into the list."""
    model = wan.build(layers=3)
    plain, own = call(model), list(model.blocks)
    with synccache.cached(model, BLOCKS) as handle:
        call(model, 1000.0)
        for index, block in enumerate(own):
            model.blocks[index] = torch.compile(block, backend="eager")
        for step in (0, 1):
            with handle.at(run=1, step=step):
                torch.testing.assert_close(call(model), plain, atol=1e-5, rtol=1e-4)
        assert [r.decision for r in handle.trace.records] == ["computed", "computed", "skipped"]
        assert all(a is b for a, b in zip(handle.anatomy.blocks, model.blocks, strict=True))
    torch.testing.assert_close(call(model), plain)
    assert not any("_call_impl" in vars(m) for m in (*own, *model.modules()))


def test_compiling_twice_and_undoing_it() -> None:
    model = wan.build(layers=3)
    with synccache.cached(model, BLOCKS) as handle:
        compile_blocks(model)
        call(model, 1000.0)
        compile_blocks(model)
        call(model, 990.0)
        for block in model.blocks:
            block._compiled_call_impl = None
        call(model, 980.0)
        assert handle.trace.decisions() == ["computed", "skipped", "skipped"]
    assert all(b._compiled_call_impl is None for b in model.blocks)
