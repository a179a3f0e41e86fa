"""Every kind of gate with every kind of scope and every kind of forecaster: it runs, or it is refused with a reason."""

from itertools import product

import pytest
import torch
from test_every_method import NEEDED, RECIPES, SKIPPING
from toys import Pipeline, Video

import synccache
from synccache import InputError, Method, forecasters, gates, scopes
from synccache.methods import complete, find
from synccache.planner import learn_profile

STEPS, DIM = 9, 8
PIPE = Pipeline(Video(DIM, layers=4, sites=(0, 2)))
ANATOMY = synccache.Anatomy("video", tuple(PIPE.transformer.blocks), sites=(0, 2), grid=lambda bound: (2, 4, 4))
MASK = torch.eye(4)
random = torch.Generator().manual_seed(0)
basis = torch.linalg.qr(torch.randn(DIM, 3, generator=random)).Q
rows = torch.tril(torch.ones(STEPS, STEPS, dtype=torch.float64), -1) / torch.arange(STEPS).clamp_min(1)[:, None]

GATES = {
    "steps": gates.Interval(3),
    "steps, in a wrapper of each kind": gates.Warmup(
        gates.Last(gates.MaxGap(gates.MaxSkips(gates.Interval(9), 4), 3)), 2
    ),
    "regions": gates.Turn(3),
    "time embedding": gates.Threshold(10.0, gates.Signal()),
    "probe": gates.MaxGap(gates.Threshold(10.0, gates.Probe()), 3),
    "residual": gates.MaxGap(gates.FirstBlock(10.0), 3),
    "trajectory": gates.MaxGap(gates.Threshold(10.0, gates.Trajectory()), 3),
    "output": gates.MaxGap(gates.Threshold(10.0, gates.OutputChange()), 3),
}
SCOPES = {
    "segments": scopes.Segments(),
    "stack, absorbed": scopes.WholeStack(),
    "stack, summed, but for the last block": scopes.WholeStack(absorb=False, keep_last=1),
    "some blocks": scopes.BlockRuns((1, 3)),
    "spans": scopes.Spans(0.75),
    "modules": scopes.Modules(),
    "model, output": scopes.WholeModel(),
    "model, residual": scopes.WholeModel(residual=True),
    "guidance alone": scopes.Nothing(),
}
FORECASTERS = {
    "reuse": forecasters.Reuse(),
    "line": forecasters.Lagrange(1, 0.5),
    "series": forecasters.Hermite(2, 0.5),
    "BDF2": forecasters.Foca(),
    "average": forecasters.Average(0.5, 3),
    "alignment": forecasters.Alignment(),
    "all anchors": forecasters.Chebyshev(),
    "inner products": forecasters.Dmd(),
    "learned rows": forecasters.Rows(rows),
    "by person": forecasters.ByPerson(forecasters.Lagrange(1), forecasters.Reuse()),
    "by frequency": forecasters.ByFrequency(forecasters.Reuse(), forecasters.Lagrange(1)),
    "by channel": forecasters.ByChannel((forecasters.Reuse(), forecasters.Lagrange(1)), torch.arange(DIM) % 2),
    "by subspace": forecasters.BySubspace(forecasters.Lagrange(1), forecasters.Reuse(), forecasters.Subspace(basis)),
}


def attached(gate, scope, forecaster):
    guidance = forecaster if isinstance(scope, scopes.Nothing) else None
    return synccache.cached(PIPE, Method(gate, scope, forecaster, guidance=guidance), anatomy=ANATOMY, mask=MASK)


@pytest.mark.parametrize(("gate", "scope"), list(product(GATES, SCOPES)))
def test_runs_or_is_refused(gate, scope):
    inside = gate in ("time embedding", "probe", "residual", "trajectory")
    guidance = 2.0 if scope == "guidance alone" else 1.0
    gate, scope = GATES[gate], SCOPES[scope]
    if inside and isinstance(scope, scopes.WholeModel):
        with pytest.raises(InputError, match="looks into the model before it decides"), attached(gate, scope, None):
            pass
        return
    plain, classes = PIPE(STEPS, guidance=guidance), [type(m) for m in PIPE.transformer.modules()]
    for name, forecaster in FORECASTERS.items():
        with attached(gate, scope, forecaster) as handle:
            out = PIPE(STEPS, guidance=guidance)
            assert torch.isfinite(out).all() and not torch.equal(out, plain), name
            assert handle.trace.skipped() > 0 and handle.bytes > 0, name
    with attached(gate, scope, FORECASTERS["series"]) as handle:
        first = PIPE(STEPS, guidance=guidance)
        # The very first computed step sums block by block until it is known which hand over: the same to rounding.
        torch.testing.assert_close(PIPE(STEPS, guidance=guidance), first, rtol=1e-4, atol=1e-4)
    with attached(gates.MaxGap(gate, 1), scope, FORECASTERS["series"]) as handle:
        assert torch.equal(PIPE(STEPS, guidance=guidance), plain) and handle.trace.skipped() == 0
    assert [type(m) for m in PIPE.transformer.modules()] == classes
    assert torch.equal(PIPE(STEPS, guidance=guidance), plain)


@pytest.fixture(scope="module")
def profiles():
    pipe = Pipeline(Video())
    learning = [n for n in SKIPPING if RECIPES[n].learn is not None and n not in NEEDED]
    return {name: learn_profile(pipe, name, pipe) for name in learning}


@pytest.mark.parametrize("first", SKIPPING)
def test_any_two_recipes_can_be_composed_or_say_why_not(first, profiles):
    """Gate and scope of the first, forecaster of the second, each as it is in its own recipe."""
    alone = {}
    for name in SKIPPING:
        given = {**NEEDED.get(name, {}), **({"profile": profiles[name]} if name in profiles else {})}
        alone[name] = RECIPES[name].build(complete(RECIPES[name], given))
    for second in SKIPPING:
        recipe = find(f"{first}+{second}")
        given = {k: v for k, v in NEEDED.get(first, {}).items() if k in recipe.settings}
        learnt = [name for name in (second, first) if name in profiles][:1]
        given |= {"profile": profiles[learnt[0]]} if learnt else {}
        try:
            method = recipe.build(complete(recipe, given))
        except InputError as refused:
            two_profiles = first in profiles and second in profiles and "profile" in str(refused)
            assert two_profiles or "no scope to lend" in str(refused), refused
            continue
        assert method.name == recipe.name and method.forecaster == alone[second].forecaster
        if first not in profiles or first in learnt:
            assert (method.gate, method.scope) == (alone[first].gate, alone[first].scope)
