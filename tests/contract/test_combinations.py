"""Every kind of gate with every kind of scope and every kind of forecaster: it runs, or it is refused with a reason.

What is refused is written out, so that nothing is let in or kept out in silence.
"""

from dataclasses import replace
from itertools import product

import pytest
import torch
from test_every_method import NEEDED, RECIPES, SKIPPING
from toys import Pipeline, Video, distance

import synccache
from synccache import InputError, Method, forecasters, gates, scopes
from synccache.methods import complete, find
from synccache.methods.names import axes, profiled
from synccache.methods.recipe import PARTS
from synccache.planner import learn_profile
from synccache.planner.schedules import best_schedule, can_be_searched_for

STEPS, DIM = 9, 8
SMALL, OTHER = (1, 4, 2, 4, 4), {"seed": 5, "shape": (2, 4, 3, 4, 4)}
PIPE = Pipeline(Video(DIM, layers=4, sites=(0, 2)))
MASK = torch.eye(4)
random = torch.Generator().manual_seed(0)
basis = torch.linalg.qr(torch.randn(DIM, 3, generator=random)).Q
LINE = forecasters.Lagrange(1, 0.5)
rows = torch.tril(torch.ones(STEPS, STEPS, dtype=torch.float64), -1) / torch.arange(STEPS).clamp_min(1)[:, None]

GATES = {
    "steps": gates.Interval(3),
    "steps, in a wrapper of each kind": gates.Warmup(
        gates.Last(gates.MaxGap(gates.MaxSkips(gates.Interval(9), 4), 3)), 2
    ),
    "regions": gates.Turn(3),
    "time embedding": gates.MaxGap(gates.Threshold(10.0, gates.Signal()), 3),
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
    "line": LINE,
    "series": forecasters.Hermite(2, 0.5),
    "BDF2": forecasters.Foca(),
    "average": forecasters.Average(0.5, 3),
    "alignment": forecasters.Alignment(),
    "all anchors": forecasters.Chebyshev(),
    "inner products": forecasters.Dmd(),
    "learned rows": forecasters.Rows(rows),
    "by person": forecasters.ByPerson(LINE, forecasters.Reuse()),
    "by frequency": forecasters.ByFrequency(forecasters.Reuse(), LINE),
    "by channel": forecasters.ByChannel((forecasters.Reuse(), LINE), torch.arange(DIM) % 2),
    "by subspace": forecasters.BySubspace(LINE, forecasters.Reuse(), forecasters.Subspace(basis)),
}

INSIDE = ("time embedding", "probe", "residual", "trajectory")
WHOLE = ("model, output", "model, residual")
SPLIT = ("by person", "by frequency", "by channel", "by subspace")
NO_PROBE = "looks into the model before it decides"
NO_TOKENS = "treats some tokens or channels of a block's stream unlike the others"
NO_PATH = "Alignment goes by the second ratio that a gate measures"
NO_OUTPUT = "Rows are learnt on what the whole model returns"


def refusal(gate, scope, forecaster):
    """Why the three don't go together; None: they do."""
    if gate in INSIDE and scope in WHOLE:
        return NO_PROBE
    if forecaster == "alignment" and gate != "trajectory":
        return NO_PATH
    if forecaster == "learned rows" and scope != "model, output":
        return NO_OUTPUT
    return NO_TOKENS if forecaster in SPLIT and scope in (*WHOLE, "guidance alone") else None


def anatomy_of(model):
    grid = lambda bound: tuple(bound["hidden_states"].shape[2:])  # noqa: E731
    return synccache.Anatomy("video", tuple(model.blocks), sites=(0, 2), grid=grid)


def attached(gate, scope, forecaster, pipe=PIPE):
    guidance = forecaster if isinstance(scope, scopes.Nothing) else None
    method = Method(gate, scope, forecaster, guidance=guidance)
    return synccache.cached(pipe, method, anatomy=anatomy_of(pipe.transformer), mask=MASK)


@pytest.mark.parametrize(("gate_name", "scope_name"), list(product(GATES, SCOPES)))
def test_runs_or_is_refused(gate_name, scope_name):
    gate, scope = GATES[gate_name], SCOPES[scope_name]
    guidance = 2.0 if scope_name == "guidance alone" else 1.0
    plain, classes = PIPE(STEPS, guidance=guidance), [type(m) for m in PIPE.transformer.modules()]
    outs = {}
    for name, forecaster in FORECASTERS.items():
        reason = refusal(gate_name, scope_name, name)
        if reason is not None:
            with pytest.raises(InputError, match=reason), attached(gate, scope, forecaster):
                pass
            continue
        with attached(gate, scope, forecaster) as handle:
            outs[name] = PIPE(STEPS, guidance=guidance)
            assert torch.isfinite(outs[name]).all() and not torch.equal(outs[name], plain), name
            assert handle.trace.skipped() > 0 and handle.bytes > 0, name
    for name in (*SPLIT, "alignment"):  # it means what it says: neither all of the one rule nor all of the other
        for rule in ("reuse", "line") if name in outs else ():
            assert distance(outs[name], outs[rule]) > 1e-4, (name, rule)
    assert [type(m) for m in PIPE.transformer.modules()] == classes
    assert torch.equal(PIPE(STEPS, guidance=guidance), plain)


@pytest.mark.parametrize(("gate_name", "scope_name"), [p for p in product(GATES, SCOPES) if refusal(*p, "") is None])
def test_never_skips_and_repeats(gate_name, scope_name):
    """With forecasters by turns: all of them stand in it somewhere."""
    able = [name for name in FORECASTERS if refusal(gate_name, scope_name, name) is None]
    turn = list(GATES).index(gate_name) + 3 * list(SCOPES).index(scope_name)
    forecaster = FORECASTERS[able[turn % len(able)]]
    check_repeats(
        PIPE, GATES[gate_name], SCOPES[scope_name], forecaster, 2.0 if scope_name == "guidance alone" else 1.0
    )


def check_repeats(pipe, gate, scope, forecaster, guidance, shape=SMALL):
    """A run is what it was before a run of another seed and shape, and where nothing is skipped the plain one."""
    run = {"guidance": guidance, "shape": shape}
    with attached(gate, scope, forecaster, pipe) as handle:
        first = pipe(STEPS, **run)
        pipe(STEPS, **{**run, **OTHER})
        # The very first computed step sums block by block until it is known which hand over: the same to rounding.
        torch.testing.assert_close(pipe(STEPS, **run), first, rtol=1e-4, atol=1e-4)
        assert len(handle.trace.runs) == 3
    plain = pipe(STEPS, **run)
    with attached(gates.MaxGap(gate, 1), scope, forecaster, pipe) as handle:
        assert torch.equal(pipe(STEPS, **run), plain) and handle.trace.skipped() == 0
    return first, plain


class HalfVideo(Video):
    """Blocks in bfloat16, within a pipeline in float32."""

    def forward(self, hidden_states, timestep, audio=None):
        return super().forward(hidden_states.bfloat16(), timestep, audio.bfloat16()).float()


HALF = HalfVideo(DIM, layers=4, sites=(0, 2))
HALF.load_state_dict(PIPE.transformer.state_dict())
HALF.bfloat16()
SOME = [
    ("probe", "segments", "by person"),
    ("trajectory", "stack, absorbed", "alignment"),
    ("steps", "stack, summed, but for the last block", "inner products"),
    ("residual", "some blocks", "by subspace"),
    ("regions", "spans", "by channel"),
    ("steps", "modules", "by frequency"),
    ("output", "model, residual", "series"),
    ("steps", "model, output", "learned rows"),
    ("probe", "guidance alone", "average"),
]


@pytest.mark.filterwarnings("ignore:.*no step has called the model for one")
@pytest.mark.parametrize("names", SOME)
@pytest.mark.parametrize("way", ["sequential", "batched", "two samples", "bfloat16"])
def test_guidance_batches_and_half_precision(way, names):
    gate, scope, forecaster = GATES[names[0]], SCOPES[names[1]], FORECASTERS[names[2]]
    pipe = Pipeline(HALF if way == "bfloat16" else PIPE.transformer, batched=way == "batched")
    shape = (2, *SMALL[1:]) if way == "two samples" else SMALL
    idle = way == "batched" and names[1] == "guidance alone"  # one call of the model has no branch to fill in
    first, plain = check_repeats(pipe, gate, scope, forecaster, 2.0, shape)
    assert torch.isfinite(first).all() and torch.equal(first, plain) == idle
    if way != "two samples" and not idle:
        with attached(gate, scope, forecaster):
            known = PIPE(STEPS, guidance=2.0)
        # Where the two branches are one batch, they share what the content decides: a fit, or a way along a path.
        shared = way == "batched" and names[2] in ("inner products", "alignment")
        assert shared or distance(first, known) < (0.03 if way == "bfloat16" else 1e-5)


@pytest.fixture(scope="module")
def profiles():
    pipe = Pipeline(Video())
    learning = [n for n in SKIPPING if RECIPES[n].learn is not None and n not in NEEDED]
    return {name: learn_profile(pipe, name, pipe) for name in learning}


def part_by_part(parts, profiles):
    """``"gate=a,scope=b,forecaster=c"``, and what the recipes in it can't do without."""
    name = ",".join(f"{part}={of}" for part, of in parts.items())
    recipe = find(name)
    given = {k: v for part, of in parts.items() for k, v in NEEDED.get(of, {}).items() if part in axes(k)}
    learnt = [profiles[of] for of in profiled(name, RECIPES) if of in profiles]
    return recipe, {**given, **({"profile": learnt} if learnt else {})}


def no_pair(first, second):
    """Why the forecaster of the second can't go with gate and scope of the first; None: it can."""
    if second == "dicache" and first != "dicache":
        return NO_PATH
    if second == "l2p" and first not in ("l2p", "searched"):
        return NO_OUTPUT
    whole = first in ("easycache", "l2p", "searched", "uncond-reuse")
    return NO_TOKENS if whole and second in ("asymmetric", "freqca", "hyca", "svd-cache") else None


@pytest.mark.parametrize("first", SKIPPING)
def test_any_two_recipes_can_be_composed_or_say_why_not(first, profiles):
    """Gate and scope of the first, forecaster of the second, each as it is in its own recipe."""
    alone = {}
    for name in SKIPPING:
        given = {**NEEDED.get(name, {}), **({"profile": profiles[name]} if name in profiles else {})}
        alone[name] = RECIPES[name].build(complete(RECIPES[name], given))
    for second in SKIPPING:
        _, given = part_by_part({"gate": first, "scope": first, "forecaster": second}, profiles)
        model, name = Video(), f"{first}+{second}"
        reason = no_pair(first, second)
        if reason is not None:
            with pytest.raises(InputError, match=reason):
                synccache.apply(model, name, **given)
            continue
        with synccache.cached(model, name, **given) as handle:
            method = handle.method
        how = alone[second].forecaster
        expected = replace(alone[first], forecaster=how, name=name, guidance=method.guidance)
        if first == "searched" and can_be_searched_for(how):  # the best list for what predicts
            best = best_schedule(profiles[first].tensors["gram"], how, RECIPES[first].settings["computed_steps"])
            expected = replace(expected, gate=replace(expected.gate, schedule=frozenset(best)))
        assert method == expected
        assert (method.guidance is None) == (alone[first].guidance is None)


SERVED = {  # by the profiles of these methods
    **dict.fromkeys(("magcache", "teacache", "searched", "schedule"), ("gate",)),
    **dict.fromkeys(("hyca", "svd-cache"), ("forecaster",)),
    "profilingdit": ("scope",),
    "l2p": ("gate", "forecaster"),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", [n for n in SKIPPING if "profile" in RECIPES[n].settings])
def test_a_part_that_no_profile_serves_is_lent_without_one(name, part, profiles):
    recipe, given = part_by_part({"gate": "interval", "scope": "interval", "forecaster": "interval", part: name}, {})
    learns = part in SERVED[name]
    assert ("profile" in recipe.settings) == learns and ("profile" in recipe.needs) == learns
    if not learns:
        whole = {**NEEDED.get(name, {}), **({"profile": profiles[name]} if name in profiles else {})}
        whole = RECIPES[name].build(complete(RECIPES[name], whole))
        assert getattr(recipe.build(complete(recipe, given)), part) == getattr(whole, part)
