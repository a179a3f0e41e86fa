"""Every kind of gate with every kind of scope and of forecaster: it is right, or it is refused with a reason.

What has to go together and what can't is written out for a few of each.
"""

import re
from itertools import product

import pytest
import torch
from test_every_method import NEEDED, RECIPES, SKIPPING

import synccache
from synccache import InputError, Method, forecasters, gates, scopes
from synccache.methods import complete, find
from synccache.methods.names import axes, profiled
from synccache.methods.recipe import PARTS
from synccache.planner import learn_profile
from synccache.testing import Pipeline, Video, distance

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
    "all anchors": forecasters.Chebyshev(centred=True),
    "inner products": forecasters.Dmd(),
    "learned rows": forecasters.Rows(rows),
    "by person": forecasters.ByPerson(LINE, forecasters.Reuse()),
    "by frequency": forecasters.ByFrequency(forecasters.Reuse(), LINE),
    "by channel": forecasters.ByChannel((forecasters.Reuse(), LINE), torch.arange(DIM) % 2),
    "by subspace": forecasters.BySubspace(LINE, forecasters.Reuse(), forecasters.Subspace(basis)),
}

# They take part of a forecast from one rule and part from the other.
APART = ("by person", "by frequency", "by channel", "by subspace", "alignment")

WORK = [
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
REFUSED = [
    ("probe", "model, output", "reuse", "looks into the model before it decides"),
    ("time embedding", "model, residual", "line", "looks into the model before it decides"),
    ("probe", "segments", "alignment", "goes by the second ratio that a gate measures"),
    ("steps", "model, output", "alignment", "goes by the second ratio that a gate measures"),
    ("steps", "segments", "learned rows", "learnt on what the whole model returns"),
    ("output", "model, residual", "learned rows", "learnt on what the whole model returns"),
    ("steps", "model, output", "by person", "treats some tokens or channels of a block's stream unlike the others"),
    ("probe", "guidance alone", "by channel", "treats some tokens or channels of a block's stream unlike the others"),
]


def anatomy_of(model):
    grid = lambda bound: tuple(bound["hidden_states"].shape[2:])  # noqa: E731
    return synccache.Anatomy("video", tuple(model.blocks), sites=(0, 2), grid=grid)


def attached(gate, scope, forecaster, pipe=PIPE):
    guidance = forecaster if isinstance(scope, scopes.Nothing) else None
    method = Method(gate, scope, forecaster, guidance=guidance)
    return synccache.cached(pipe, method, anatomy=anatomy_of(pipe.transformer), mask=MASK)


def fitting(gate, scope, forecasters=FORECASTERS):
    """Those of the forecasters that go with the two. Others say why not, in a sentence, and leave nothing attached."""
    classes, found = [type(m) for m in PIPE.transformer.modules()], {}
    for name, forecaster in forecasters.items():
        try:
            with attached(GATES[gate], SCOPES[scope], forecaster):
                found[name] = forecaster
        except InputError as error:
            assert re.fullmatch(r"[A-Z].{40,}\.", str(error)), name
        assert [type(m) for m in PIPE.transformer.modules()] == classes, name
    return found


def still(gate, scope, forecaster, branches):
    """How far the worst of a run's outputs is off, where every step has the same input: by rounding alone."""
    latent = torch.randn(SMALL, generator=torch.Generator().manual_seed(1))
    audio = torch.randn(branches, 1, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad(), attached(gate, scope, forecaster) as handle:
        outs = []
        for step in range(STEPS):
            outs.append([])
            for branch, heard in zip(("cond", "uncond"), audio, strict=False):
                with handle.at(step=step, total=STEPS, branch=branch):
                    outs[-1].append(PIPE.transformer(latent, torch.tensor([500.0]), heard))
        assert handle.trace.skipped() > 0
    return max(distance(out, first) for step in outs for out, first in zip(step, outs[0], strict=True))


class Zero(forecasters.Reuse):
    """Fills in zeros: nothing in place of what is left out."""

    def weights(self, times, t, context):
        return 0 * super().weights(times, t, context)


@pytest.mark.parametrize(("gate", "scope"), list(product(GATES, SCOPES)))
def test_what_goes_together_is_right_and_what_does_not_says_why(gate, scope):
    """On repeated input a filled-in step is the computed one; on others, nearer than with nothing in its place."""
    guidance = 2.0 if scope == "guidance alone" else 1.0
    plain, outs, able = PIPE(STEPS, guidance=guidance), {}, fitting(gate, scope)
    for name, forecaster in {**able, **({"zero": Zero()} if able else {})}.items():
        with attached(GATES[gate], SCOPES[scope], forecaster) as handle:
            outs[name] = PIPE(STEPS, guidance=guidance)
            assert torch.isfinite(outs[name]).all() and handle.trace.bytes_peak > 0, name
            assert 0 < handle.trace.skipped() < STEPS - 1, name
    for name, forecaster in able.items():
        assert still(GATES[gate], SCOPES[scope], forecaster, int(guidance)) < 1e-5, name
        assert 1.25 * distance(outs[name], plain) < distance(outs["zero"], plain), name
    for name in APART:  # it means what it says: neither all of the one rule nor all of the other
        for rule in ("reuse", "line") if name in outs else ():
            assert distance(outs[name], outs[rule]) > 1e-4, (name, rule)
    assert torch.equal(PIPE(STEPS, guidance=guidance), plain)


@pytest.mark.parametrize("names", WORK)
def test_these_go_together(names):
    gate, scope, forecaster = names
    assert set(fitting(gate, scope, {forecaster: FORECASTERS[forecaster]})) == {forecaster}


@pytest.mark.parametrize(("gate", "scope", "forecaster", "reason"), REFUSED)
def test_these_are_refused(gate, scope, forecaster, reason):
    with pytest.raises(InputError, match=reason), attached(GATES[gate], SCOPES[scope], FORECASTERS[forecaster]):
        pass


@pytest.mark.filterwarnings("ignore:.*left out nothing in a run")
@pytest.mark.parametrize(("gate", "scope"), list(product(GATES, SCOPES)))
def test_never_skips_and_repeats(gate, scope):
    """With forecasters by turns: all of them stand in it somewhere."""
    turn = list(GATES).index(gate) + 3 * list(SCOPES).index(scope)
    names = [*list(FORECASTERS)[turn % len(FORECASTERS) :], *FORECASTERS]
    for name in names:
        able = fitting(gate, scope, {name: FORECASTERS[name]})
        if able:
            guidance = 2.0 if scope == "guidance alone" else 1.0
            check_repeats(PIPE, GATES[gate], SCOPES[scope], able[name], guidance)
            return
    assert not fitting(gate, scope)


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


@pytest.mark.filterwarnings("ignore:.*left out nothing in a run", "ignore:.*no step has called the model for one")
@pytest.mark.parametrize("names", WORK)
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


TOGETHER = [
    ("synccache", "hicache"), ("whole-stack", "foca"), ("dicache", "dicache"), ("searched", "l2p"), ("fora", "freqca"),
    ("profilingdit", "asymmetric"), ("uncond-reuse", "linear"), ("magcache", "taylorseer"), ("teacache", "svd-cache"),
]  # fmt: skip
NOT_TOGETHER = [
    ("synccache", "dicache", "goes by the second ratio that a gate measures"),
    ("interval", "l2p", "learnt on what the whole model returns"),
    ("easycache", "asymmetric", "treats some tokens or channels of a block's stream unlike the others"),
    ("uncond-reuse", "hyca", "treats some tokens or channels of a block's stream unlike the others"),
]


@pytest.fixture(scope="module")
def alone(profiles):
    """Each recipe's method as it is by itself."""
    made = {}
    for name in SKIPPING:
        given = {**NEEDED.get(name, {}), **({"profile": profiles[name]} if name in profiles else {})}
        made[name] = RECIPES[name].build(complete(RECIPES[name], given))
    return made


def composed(target, first, second, profiles):
    """Gate and scope of the first, forecaster of the second, attached."""
    _, given = part_by_part({"gate": first, "scope": first, "forecaster": second}, profiles)
    return synccache.cached(target, f"{first}+{second}", **given)


@pytest.mark.parametrize("first", SKIPPING)
def test_any_two_recipes_are_what_each_lends_or_say_why_not(first, profiles, alone):
    """Every third pair also runs."""
    pipe, refused = Pipeline(Video()), 0
    plain = pipe()
    for number, second in enumerate(SKIPPING, SKIPPING.index(first)):
        try:
            with composed(pipe, first, second, profiles) as handle:
                method = handle.method
                if number % 3 == 0:
                    out = pipe()
                    assert distance(out, plain) < 0.5 and not torch.equal(out, plain), second
                    assert 0 < handle.trace.skipped() < 20, second
        except InputError as error:
            assert re.fullmatch(r"[A-Z].{40,}\.", str(error)), second
            refused += 1
            continue
        assert method.scope == alone[first].scope and method.forecaster == alone[second].forecaster, second
        assert (method.guidance is None) == (alone[first].guidance is None), second
        if first != "searched":  # its list is searched for anew, for what predicts
            assert method.gate == alone[first].gate, second
    assert refused < 0.3 * len(SKIPPING)


@pytest.mark.parametrize(("first", "second"), TOGETHER)
def test_these_recipes_go_together(first, second, profiles):
    with composed(Pipeline(Video()), first, second, profiles):
        pass


@pytest.mark.parametrize(("first", "second", "reason"), NOT_TOGETHER)
def test_these_recipes_are_refused(first, second, reason, profiles):
    with pytest.raises(InputError, match=reason), composed(Pipeline(Video()), first, second, profiles):
        pass


def test_a_list_is_searched_for_what_predicts(profiles):
    """Reuse wants its steps elsewhere than the straight line does."""
    schedules = []
    for second in ("searched", "interval"):
        with composed(Pipeline(Video()), "searched", second, profiles) as handle:
            schedules.append(handle.method.gate.schedule)
    assert len(schedules[0]) == len(schedules[1]) and schedules[0] != schedules[1]


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
