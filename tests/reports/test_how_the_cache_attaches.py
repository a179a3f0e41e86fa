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
from adapters import ADAPTERS
from libraries import LIBRARIES, one_rank
from models import Noise
from neighbours import AROUND, BUILD, INPUTS, Neighbour
from torch import Tensor, nn
from weights import WEIGHTS

import synccache
from synccache import Method
from synccache.forecasters import Reuse
from synccache.gates import Listed
from synccache.scopes import Modules, Segments

SCOPES = {"segments": Segments(), "modules": Modules()}
ORDERS = [  # when the neighbour comes, and who leaves first
    ("before", "neighbour"), ("before", "cache"), ("after", "neighbour"), ("after", "cache"), ("between runs", "cache"),
]  # fmt: skip
NEIGHBOURS = {f"{n.model}-{n.name}": n for n in (*AROUND, *WEIGHTS, *ADAPTERS, *LIBRARIES)}
FIRST, SECOND = 0.9, 0.7  # timesteps


@pytest.fixture(scope="module", autouse=True)
def _alone() -> Iterator[None]:
    """A process group, and a compiler, for these cases alone."""
    torch._dynamo.reset()
    with one_rank():
        yield
    torch._dynamo.reset()


@cache
def prototype(name: str) -> nn.Module:
    """The model before the neighbour comes."""
    model = BUILD[NEIGHBOURS[name].model]()
    NEIGHBOURS[name].before(model)
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
    """The class of every module, and the names of what it holds (``None`` is as good as nothing)."""
    return {
        name: (type(m).__name__, sorted(k for k, v in vars(m).items() if v is not None))
        for name, m in model.named_modules()
    }


@cache
def uncached(name: str) -> dict[str, tuple[list[Tensor], dict[str, Any]]]:
    """What the model gives, and how it looks, without the neighbour, beside it, and after it: without any cache."""
    neighbour = NEIGHBOURS[name]
    model = copy.deepcopy(prototype(name))
    found = {"without": (outputs(model, neighbour.model), looks(model))}
    runs = neighbour.runs() if neighbour.runs else 0
    off = neighbour.on(model)
    found["beside"] = (outputs(model, neighbour.model), looks(model))
    same = all(map(torch.equal, found["without"][0], found["beside"][0]))
    assert neighbour.shows(model) if neighbour.shows else not same, "the neighbour has no effect"
    assert neighbour.runs is None or neighbour.runs() > runs
    assert (off is not None) == neighbour.goes
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


def assert_is(model: nn.Module, kind: str, expected: list[Tensor], look: dict[str, Any]) -> None:
    """Without a cache the model gives what it should, and looks so."""
    assert torch.equal(call(model, kind, SECOND), expected[1])
    assert looks(model) == look


def run(handle: synccache.Handle, model: nn.Module, kind: str, number: int) -> list[Tensor]:
    """The outputs of the first two steps of a run, which are computed."""
    found = []
    for step, timestep in enumerate((FIRST, SECOND)):
        with handle.at(run=number, step=step):
            found.append(call(model, kind, timestep))
    return found


def attach(model: nn.Module, scope: str) -> synccache.Handle:
    return synccache.apply(model, Method(Listed(frozenset({0, 1})), SCOPES[scope], Reuse()))


CASES = [
    (name, comes, scope, leaves)
    for name, neighbour in NEIGHBOURS.items()
    for scope in SCOPES
    if scope not in neighbour.refuses
    for comes, leaves in ORDERS
    if neighbour.goes or leaves == "cache"
]


@pytest.mark.parametrize(("name", "comes", "scope", "leaves"), CASES)
def test_neighbours(name: str, comes: str, scope: str, leaves: str) -> None:
    """The neighbour ``comes`` before or after the cache, or when a run was made; one of the two ``leaves`` first."""
    neighbour, expected = NEIGHBOURS[name], uncached(name)
    kind, model = neighbour.model, copy.deepcopy(prototype(name))
    off = neighbour.on(model) if comes == "before" else None
    handle = attach(model, scope)
    if comes == "between runs":
        assert_equal(run(handle, model, kind, 0), expected["without"][0])
    if comes != "before":
        off = neighbour.on(model)

    check_run(handle, model, neighbour, expected["beside"][0])
    if leaves == "neighbour":
        off()
        assert_equal(run(handle, model, kind, 2), expected["after"][0])
        handle.remove()
        if neighbour.stays:
            off()
    else:
        handle.remove()
        assert_is(model, kind, *expected["beside"])
        if off is not None:
            off()
    if off is not None:
        assert_is(model, kind, *expected["after"])


def test_a_removed_cache_is_held_by_nobody() -> None:
    """Not by the models, nor by what others have put on them while it was there."""
    undo, handles = [], {}
    for name, neighbour in NEIGHBOURS.items():
        model = copy.deepcopy(prototype(name))
        handle = attach(model, "segments" if neighbour.refuses else "modules")
        undo.append((model, neighbour.on(model)))
        run(handle, model, neighbour.model, 0)
        handle.remove()
        handles[name] = weakref.ref(handle)
        del handle
    gc.collect()
    assert [name for name, handle in handles.items() if handle() is not None] == []
    for _, off in undo:
        if off is not None:
            off()


def check_run(handle: synccache.Handle, model: nn.Module, neighbour: Neighbour, expected: list[Tensor]) -> None:
    """Two steps that are computed, and the second one's input again, which is filled in."""
    assert_equal(run(handle, model, neighbour.model, 1), expected)
    with handle.at(run=1, step=2):
        if neighbour.runs is None:
            with ran() as seen:
                again = call(model, neighbour.model, SECOND)
            assert seen and not seen & left_out(handle)
        else:
            runs = neighbour.runs()
            again = call(model, neighbour.model, SECOND)
            assert neighbour.runs() == runs
    torch.testing.assert_close(again, expected[1], atol=1e-5, rtol=1e-4)
    assert handle.trace.decisions()[-3:] == ["computed", "computed", "skipped"]
