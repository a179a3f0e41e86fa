"""Whatever others do to the model, before a cache is attached or after: both work, and each can be taken off."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from libraries import BACKEND, LIBRARIES, one_rank
from models import Noise
from neighbours import BUILD, INPUTS, MODULES, Neighbour
from torch import Tensor, nn

import synccache
from synccache import Conflict, Method
from synccache.forecasters import Reuse
from synccache.gates import Listed
from synccache.scopes import Modules, Segments

SCOPES = {"segments": Segments(), "modules": Modules()}
NEIGHBOURS = {f"{n.model}-{n.name}": n for n in (*MODULES, *LIBRARIES)}
FIRST, SECOND = 0.9, 0.7  # timesteps


@pytest.fixture(scope="module", autouse=True)
def _alone() -> Iterator[None]:
    """One process group for all of it; and what is there now needn't be looked through for each case."""
    torch._dynamo.reset()
    gc.collect()
    gc.freeze()
    with one_rank():
        yield
    gc.unfreeze()
    torch._dynamo.reset()


@cache
def prototype(kind: str) -> nn.Module:
    return BUILD[kind]()


def build(neighbour: Neighbour) -> nn.Module:
    model = copy.deepcopy(prototype(neighbour.model))
    neighbour.before(model)
    return model


def call(model: nn.Module, kind: str, timestep: float) -> Tensor:
    """The output for inputs that go with ``timestep``: the same ones, the latent apart, for every one."""
    inputs = INPUTS[kind](1)
    inputs["hidden_states"] = inputs["hidden_states"] + timestep * Noise(9)(*inputs["hidden_states"].shape)
    scale = 1000 if kind == "wan" else 1
    with torch.no_grad():
        return model(timestep=torch.tensor([timestep * scale]), **inputs)[0]


def outputs(model: nn.Module, kind: str) -> list[Tensor]:
    return [call(model, kind, timestep) for timestep in (FIRST, SECOND)]


def looks(model: nn.Module) -> dict[str, Any]:
    """The class of every module, and the names of what it holds."""
    return {name: (type(m).__name__, sorted(vars(m))) for name, m in model.named_modules()}


@cache
def uncached(name: str) -> dict[str, tuple[list[Tensor], dict[str, Any]]]:
    """What the model gives, and how it looks, without the neighbour, beside it, and after it: without any cache."""
    neighbour = NEIGHBOURS[name]
    model = build(neighbour)
    found = {"without": (outputs(model, neighbour.model), looks(model))}
    runs = BACKEND.runs
    off = neighbour.on(model)
    found["beside"] = (outputs(model, neighbour.model), looks(model))
    same = all(map(torch.equal, found["without"][0], found["beside"][0]))
    assert neighbour.shows(model) if neighbour.shows else not same, "the neighbour has no effect"
    assert neighbour.runs is None or BACKEND.runs > runs
    if off is not None:
        off()
        found["after"] = (outputs(model, neighbour.model), looks(model))
    return found


@contextmanager
def ran() -> Iterator[set[int]]:
    """The ids of the modules that ran inside."""
    seen: set[int] = set()
    hook = nn.modules.module.register_module_forward_pre_hook(lambda module, args: seen.add(id(module)))
    try:
        yield seen
    finally:
        hook.remove()


def left_out(handle: synccache.Handle) -> set[int]:
    """The ids of the modules that needn't run on a skipped step, and of all inside them."""
    blocks = handle.anatomy.blocks
    found = []
    for region in handle.regions:
        found += [blocks[region.first].get_submodule(n) for n in region.modules] or [blocks[i] for i in region.members]
    return {id(inner) for module in found for inner in module.modules()}


def assert_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    assert all(map(torch.equal, found, expected))


def run(handle: synccache.Handle, model: nn.Module, kind: str, number: int) -> list[Tensor]:
    """The outputs of the first two steps of a run, which are computed."""
    found = []
    for step, timestep in enumerate((FIRST, SECOND)):
        with handle.at(run=number, step=step):
            found.append(call(model, kind, timestep))
    return found


def attach(model: nn.Module, scope: str) -> synccache.Handle:
    return synccache.apply(model, Method(Listed(frozenset({0, 1})), SCOPES[scope], Reuse()))


@pytest.mark.parametrize("leaves", ["neighbour", "cache"])
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("comes", ["before", "after", "between runs"])
@pytest.mark.parametrize("name", NEIGHBOURS)
def test_neighbours(name: str, comes: str, scope: str, leaves: str) -> None:
    """The neighbour ``comes`` before or after the cache, or when a run was made; one of the two ``leaves`` first."""
    neighbour, expected = NEIGHBOURS[name], uncached(name)
    kind, model = neighbour.model, build(neighbour)
    off = neighbour.on(model) if comes == "before" else None
    handle = attach(model, scope)
    if comes == "between runs":
        assert_equal(run(handle, model, kind, 0), expected["without"][0])
    if comes != "before":
        off = neighbour.on(model)

    if scope in neighbour.refuses:
        with pytest.raises(Conflict, match="compiled"):
            run(handle, model, kind, 1)
    else:
        check_run(handle, model, neighbour, expected["beside"][0])

    if leaves == "neighbour" and off is not None:
        off()
        assert_equal(run(handle, model, kind, 2), expected["after"][0])
        handle.remove()
    else:
        handle.remove()
        assert_equal(outputs(model, kind), expected["beside"][0])
        assert looks(model) == expected["beside"][1]
        if off is not None:
            off()
    if off is not None:
        assert_equal(outputs(model, kind), expected["after"][0])
        assert looks(model) == expected["after"][1]
    held = weakref.ref(handle.engine)
    del handle
    gc.collect()
    assert held() is None, "something of the cache is still held"


def check_run(handle: synccache.Handle, model: nn.Module, neighbour: Neighbour, expected: list[Tensor]) -> None:
    """Two steps that are computed, and the second one's input again, which is filled in."""
    assert_equal(run(handle, model, neighbour.model, 1), expected)
    runs = BACKEND.runs
    with handle.at(run=1, step=2):
        if neighbour.runs is None:
            with ran() as seen:
                again = call(model, neighbour.model, SECOND)
            assert seen and not seen & left_out(handle)
        else:
            again = call(model, neighbour.model, SECOND)
            assert BACKEND.runs == runs
    torch.testing.assert_close(again, expected[1], atol=1e-5, rtol=1e-4)
    assert handle.trace.decisions()[-3:] == ["computed", "computed", "skipped"]
