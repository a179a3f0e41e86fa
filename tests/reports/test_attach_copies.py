"""A copy of a model, or of a module in it, made while a cache is attached: it is free of the cache, and works."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import synccache
from synccache import Method
from synccache.forecasters import Reuse
from synccache.gates import Listed
from synccache.scopes import Modules
from synccache.testing import Video

LATENT = torch.randn(1, 4, 2, 4, 4, generator=torch.Generator().manual_seed(1))
AUDIO = torch.randn(1, 8, generator=torch.Generator().manual_seed(2))
PARTS = Method(Listed(frozenset({0})), Modules(), Reuse())


def call(model: nn.Module, timestep: float) -> Tensor:
    with torch.no_grad():
        return model(LATENT, torch.tensor([timestep]), AUDIO)


def pickled(module: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(module))


def saved(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=False)


def attributes(module: nn.Module) -> dict[str, tuple[type, set[str]]]:
    return {name: (type(m), set(vars(m))) for name, m in module.named_modules()}


@pytest.mark.parametrize("how", [copy.deepcopy, pickled, saved, copy.copy])
@pytest.mark.parametrize("which", ["", "blocks.1", "blocks.1.ffn"])
@pytest.mark.parametrize("method", ["interval", PARTS], ids=["blocks", "modules"])
def test_a_copy_knows_nothing_of_the_cache(method: str | Method, which: str, how: Callable) -> None:
    model = Video()
    plain, before = call(model, 900.0), attributes(model.get_submodule(which))
    settings = {"steps": 20} if method == "interval" else {}
    with synccache.cached(model, method, **settings) as handle:
        call(model, 1000.0)
        module = model.get_submodule(which)
        twin = how(module)
        assert type(twin) is type(module) and set(vars(twin)) == before[""][1]
        if how is not copy.copy:  # a shallow one holds the very modules that are inside
            assert attributes(twin) == before
        whole = twin
        if which:
            whole = Video()
            whole.set_submodule(which, twin)
        seen = len(handle.trace)
        for _ in range(3):
            assert torch.equal(call(whole, 900.0), plain)
        assert len(handle.trace) == seen
        call(model, 900.0)
        assert len(handle.trace) == seen + 1
    assert torch.equal(call(whole, 900.0), plain)


def test_a_copy_may_have_a_cache_of_its_own() -> None:
    """And the copy of a copy, and a copy made after the cache of the first has gone."""
    model = Video()
    plain = call(model, 900.0)
    with synccache.cached(model, PARTS) as one:
        twin = copy.deepcopy(copy.deepcopy(model))
        with synccache.cached(twin, PARTS) as other:
            for timestep in (1000.0, 900.0, 800.0):
                call(twin, timestep)
            assert len(one.trace) == 0 and other.trace.decisions()[-1] == "skipped"
        assert one.attached and torch.equal(call(twin, 900.0), plain)
        call(model, 1000.0)
        assert len(one.trace) == 1
    assert attributes(copy.deepcopy(twin)) == attributes(model)


def test_what_others_put_in_the_same_place_is_copied() -> None:
    """Another library's stand-in is its own business: it is in the copy, where the cache stood on it."""
    model = Video()
    block = model.blocks[0]
    block._call_impl = Louder()
    with synccache.cached(model, PARTS, anatomy=synccache.Anatomy("video", tuple(model.blocks))):
        assert not isinstance(vars(block)["_call_impl"], Louder)
        assert isinstance(vars(copy.deepcopy(model).blocks[0])["_call_impl"], Louder)
    assert isinstance(vars(block)["_call_impl"], Louder)


class Louder:
    def __call__(self, x: Tensor, e: Tensor) -> Tensor:
        return 2 * x
