"""What a block takes as an argument and adds as its last act stays live, though the block is left out."""

from dataclasses import replace

import pytest
import torch
from models import others
from torch import nn

import synccache
from synccache import Anatomy, Method, anatomies
from synccache.forecasters import Reuse
from synccache.gates import Listed, Never
from synccache.scopes import Segments, WholeStack
from synccache.testing import distance

GATE = Listed(frozenset({0}))
X = torch.full((1, 2, 3), 20.0)
BUILT = others.build_cosmos(controlnet_block_every_n=2)
INPUTS, OTHER = {**others.cosmos(0), "block_controlnet_hidden_states": others.residuals(0)}, others.residuals(7)


class Controlled(nn.Module):
    """Adds ``weight * level``, then, in place, what a ControlNet gave."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight, self.calls = nn.Parameter(torch.tensor(weight)), 0

    def forward(self, hidden_states, level, control=None):
        self.calls += 1
        hidden_states = hidden_states + self.weight * level
        if control is not None:
            hidden_states += control
        return hidden_states


class ControlledModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Controlled(w) for w in (1.0, 2.0, 3.0))

    def forward(self, hidden_states, timestep, level, controls):
        for block, control in zip(self.blocks, controls, strict=True):
            hidden_states = block(hidden_states, level, control)
        return hidden_states


def run(scope, sites, controls, added=True):
    """Value at level 3.5 (computed), then at level 4 (filled in): the blocks add 21, then still 21."""
    model, values = ControlledModel(), []
    names = {"Controlled": {"control": "hidden_states"}} if added else {}
    anatomy = Anatomy("controlled", tuple(model.blocks), sites=sites, added=names)
    with torch.no_grad(), synccache.cached(model, Method(GATE, scope, Reuse()), anatomy=anatomy) as handle:
        for timestep, level, given in ((1000.0, 3.5, controls[0]), (900.0, 4.0, controls[1])):
            tensors = [None if c is None else torch.tensor([c]) for c in given]
            values.append(model(X.clone(), torch.tensor([timestep]), level, tensors).unique().tolist())
        assert handle.trace.decisions() == ["computed", "skipped"]
    assert [b.calls for b in model.blocks] == [1, 1, 1]
    return values


@pytest.mark.parametrize("sites", [None, (), (0, 2)], ids=["found", "no sites", "sites"])
@pytest.mark.parametrize("scope", [Segments(), Segments(0.4), WholeStack(absorb=False)])
def test_it_is_no_part_of_what_is_stored_and_is_added_anew(scope, sites):
    controls = (100.0, None, 10.0), (200.0, None, 50.0)
    assert run(scope, sites, controls) == [[20 + 21 + 110], [20 + 21 + 250]]


def test_it_may_come_and_go():
    assert run(Segments(), (0, 1, 2), ((100.0, None, None), (None, 7.0, None))) == [[141], [48]]


def test_undeclared_it_would_be_wrong():
    """What the declaration is for: else the old residuals are stored and the new ones lost."""
    assert run(Segments(), (0, 2), ((100.0, None, 10.0), (200.0, None, 50.0)), added=False) == [[151], [151]]


def cosmos(scope, second="skipped", **changes):
    """Untouched at each residual, and with the other residuals on a skipped step."""
    anatomy = replace(anatomies.find(BUILT), **changes)

    def call(step, residuals):
        arguments = {**INPUTS, "block_controlnet_hidden_states": residuals}
        return BUILT(timestep=torch.tensor([1e-9 - 1e-10 * step]), **arguments)[0]

    with torch.no_grad():
        stale, true = call(1, INPUTS["block_controlnet_hidden_states"]), call(1, OTHER)
        with synccache.cached(BUILT, Method(GATE, scope, Reuse()), anatomy=anatomy) as handle:
            call(0, INPUTS["block_controlnet_hidden_states"])
            followed = call(1, OTHER)
            assert handle.trace.decisions() == ["computed", second]
    return stale, true, followed


def test_a_cosmos_controlnet_is_followed_whichever_segments_merge():
    for scope in (Segments(), Segments(0.4), WholeStack(absorb=False)):
        stale, true, followed = cosmos(scope)
        assert distance(followed, true) < 0.1 * distance(stale, true)


def test_undeclared_or_absorbed_other_residuals_have_their_step_computed():
    for scope, changes in ((Segments(), {"added": {}}), (WholeStack(absorb=True), {})):
        _, true, followed = cosmos(scope, "computed", **changes)
        assert torch.equal(followed, true)


def test_declared_breaks_and_fixed_blocks_outlive_the_first_call():
    model = ControlledModel()
    anatomy = Anatomy("controlled", tuple(model.blocks), sites=(), breaks=(0,), fixed=(2,))
    with torch.no_grad(), synccache.cached(model, Method(GATE, Segments(), Reuse()), anatomy=anatomy) as handle:
        for timestep in (1000.0, 900.0, 800.0):
            model(X.clone(), torch.tensor([timestep]), 4.0, (None, None, None))
        assert handle.anatomy.breaks == (0,) and handle.anatomy.fixed == (2,)
        assert [r.members for r in handle.regions] == [(0,), (1,)]
        assert [b.calls for b in model.blocks] == [1, 1, 3]


def test_never_skipping_stays_bit_equal_with_an_in_place_addition():
    model = ControlledModel()
    anatomy = Anatomy("controlled", tuple(model.blocks), added={"Controlled": {"control": "hidden_states"}})
    arguments = X.clone(), torch.tensor([1000.0]), 4.0, [torch.rand(1), None, torch.rand(1)]
    with torch.no_grad():
        plain = model(*arguments)
        with synccache.cached(model, Method(Never(), Segments(), Reuse()), anatomy=anatomy):
            assert torch.equal(model(*arguments), plain)
