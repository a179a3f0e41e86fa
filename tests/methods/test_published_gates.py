"""The recipes whose gates look at the model: published numbers, settings, and what runs on a skipped step."""

import math

import pytest
import torch

import synccache
from synccache import InputError
from synccache.core.types import innermost
from synccache.forecasters import Alignment, Reuse, Taylor
from synccache.methods import RECIPES, complete
from synccache.methods.teacache import SETS, fitted
from synccache.portrait.pipeline import PortraitPipeline
from synccache.testing import AddModel, Pipeline, Video

X = torch.full((1, 2, 3), 20.0)


def gate_of(method, model=None, **given):
    """The innermost gate on a model, ``"wan"`` or ``"wan/40"`` with its number of blocks."""
    return innermost(RECIPES[method].build(complete(RECIPES[method], given, *known(model))).gate)


def known(model):
    name, _, blocks = (model or "").partition("/")
    return name, int(blocks) if blocks else None


def wrappers(method, model=None, **given):
    gate, found = RECIPES[method].build(complete(RECIPES[method], given, *known(model))).gate, {}
    while hasattr(gate, "gate"):
        found[type(gate).__name__], gate = gate.steps, gate.gate
    return found


def run(model, method, levels, **settings):
    """One number per step: the model's output at these levels, from the same latent."""
    outs = []
    with torch.no_grad(), synccache.cached(model, method, **settings) as handle:
        for i, level in enumerate(levels):
            (value,) = model(X, torch.tensor([1000.0 - i]), torch.tensor(float(level))).unique().tolist()
            outs.append(value)
    return outs, handle


# -- defaults ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "anatomy", "threshold", "protections"),
    [
        ("first-block", None, 0.05, {}),
        ("first-block", "hunyuan-video", 0.06, {}),
        ("first-block", "flux", 0.08, {}),
        ("dbcache", None, 0.08, {"Warmup": 8}),
        ("dicache", None, 0.1, {"Warmup": 0.2}),
        ("dicache", "wan", 0.08, {"Warmup": 0.2}),
        ("dicache", "flux", 0.4, {"Warmup": 0.2, "Last": 1}),
        ("easycache", None, 0.05, {"Warmup": 0.2, "Last": 1}),
        ("easycache", "wan", 0.05, {"Warmup": 10, "Last": 1}),
        ("easycache", "hunyuan-video", 0.025, {"Warmup": 5, "Last": 1}),
        ("teacache", "wan/40", 0.1, {"Warmup": 5}),
        ("teacache", "wan/30", 0.05, {"Warmup": 5}),
        ("teacache", "wan", 0.1, {"Warmup": 1, "Last": 1}),
        ("teacache", "cogvideox/42", 0.1, {"Warmup": 1, "Last": 1}),
        ("teacache", None, 0.1, {"Warmup": 1, "Last": 1}),
    ],
)
def test_published_defaults(method, anatomy, threshold, protections):
    assert gate_of(method, anatomy).threshold == threshold
    assert wrappers(method, anatomy) == protections


def test_a_named_set_brings_its_own_defaults_along():
    for name, threshold, warmup in (("wan2.1-i2v-480p-ret", 0.2, 5), ("wan2.1-t2v-14b", 0.14, 1), ("flux", 0.25, 1)):
        assert gate_of("teacache", coefficients=name).threshold == threshold
        assert wrappers("teacache", coefficients=name)["Warmup"] == warmup
    assert gate_of("teacache", coefficients="flux", threshold=0.3).threshold == 0.3
    assert wrappers("teacache", "wan/40", warmup=0) == {}  # the "ret" set computes no last step
    for name, threshold, skips in (
        ("wan2.1-t2v-1.3b", 0.12, 4),
        ("wan2.1-t2v-14b", 0.24, 6),
        ("wan2.2-t2v-a14b", 0.06, 2),
    ):
        gate = gate_of("magcache", ratios=name)
        assert (gate.threshold, gate.max_skips) == (threshold, skips)
    assert gate_of("magcache", ratios="wan2.1-t2v-14b", max_gap=3).max_skips == 2


def test_dicache_reaches_further_on_wan():
    uppers = {a: complete(RECIPES["dicache"], {}, a)["upper"] for a in ("wan", "hunyuan-video", None)}
    assert uppers == {"wan": 2.0, "hunyuan-video": 1.5, None: 1.5}
    assert RECIPES["dicache"].build(complete(RECIPES["dicache"], {}, "wan")).forecaster == Alignment(2.0)


# -- dbcache -----------------------------------------------------------------------------------------------------


def test_dbcache_runs_the_first_and_the_last_blocks():
    model = AddModel((1, 2, 3, 4, 5))
    given = {"front": 2, "back": 1, "warmup": 0, "threshold": 0.5}
    outs, handle = run(model, "dbcache", [4, 5], **given)
    assert [b.calls for b in model.blocks] == [2, 2, 1, 1, 2]
    assert outs == [20 + 15 * 4, 20 + 3 * 5 + 7 * 4 + 5 * 5]
    assert [r.members for r in handle.regions] == [(2, 3)]
    assert gate_of("dbcache", **given).measure.blocks == 2


def test_dbcache_forecasts():
    def forecaster(**given):
        return RECIPES["dbcache"].build(complete(RECIPES["dbcache"], given)).forecaster

    assert forecaster() == Reuse() and forecaster(order=1) == Taylor(1)
    outs, _ = run(AddModel(), "dbcache", [10, 11, 12], front=1, warmup=2, threshold=0.5, order=1)
    assert outs == [20 + 60, 20 + 66, 20 + 72]


def test_dbcache_caps():
    _, handle = run(AddModel(), "dbcache", [1] * 9, front=1, warmup=0, max_skips=3)
    assert [d == "skipped" for d in handle.trace.decisions()] == [False, True, True, True, *[False] * 5]
    _, handle = run(AddModel(), "dbcache", [1] * 7, front=1, warmup=0, max_gap=3)
    assert [d == "skipped" for d in handle.trace.decisions()] == [False, True, True, False, True, True, False]
    assert wrappers("dbcache", max_skips=0) == {"Warmup": 8}


def test_dbcache_needs_blocks_in_between():
    with pytest.raises(InputError, match=r"The first 2 and the last 1 blocks always run, and AddModel has 3, so none"):
        synccache.apply(AddModel(), "dbcache", front=2, back=1)
    model = synccache.methods()["dbcache"].models["portrait"]
    assert model["front"] < 17


def test_first_block_is_dbcache_with_one_block():
    levels = [10, 10.25, 10.5, 11, 12]
    first = run(AddModel(), "first-block", levels)
    both = run(AddModel(), "dbcache", levels, front=1, warmup=0, threshold=0.05)
    assert first[0] == both[0] and first[1].trace.decisions() == both[1].trace.decisions()
    assert 0 < first[1].trace.skipped() < 4


# -- easycache ---------------------------------------------------------------------------------------------------


class Wider(AddModel):
    """Takes a second channel that it doesn't give back, as image-to-video models do."""

    def forward(self, hidden_states, timestep, level):
        return super().forward(hidden_states, timestep, level)[:, :1]


def test_easycache_where_more_goes_in_than_comes_out():
    given = {"warmup": 2, "threshold": 9, "last": 0}
    with pytest.warns(synccache.Notice, match="of another shape than what it is compared with, so it is computed"):
        outs, handle = run(Wider(), "easycache", [1] * 6, **given)
    assert outs == [26.0] * 6 and handle.trace.skipped() == 0
    outs, handle = run(Wider(), "easycache", [1] * 6, residual=False, **given)
    assert outs == [26.0] * 6 and handle.trace.skipped() == 4


def test_easycache_lets_the_conditional_branch_decide():
    pipe = Pipeline(Video())
    with synccache.cached(pipe, "easycache", threshold=0.3) as handle:
        pipe(steps=20)
    by_step = {}
    for r in handle.trace.records:
        by_step.setdefault(r.step, []).append(r)
    assert all(
        len({r.decision for r in rs}) == 1 and [r.decides for r in rs] == [True, False] for rs in by_step.values()
    )
    assert handle.trace.skipped() > 0


# -- teacache ----------------------------------------------------------------------------------------------------


def test_the_published_sets():
    assert len(SETS) == 17
    for name, known in SETS.items():
        assert len(known["coefficients"]) == 5 and all(map(math.isfinite, known["coefficients"])), name
        assert known["thresholds"] == sorted(known["thresholds"]) and known["fitted_on"] and known["signal"]
        assert ("ret" in name) == (known["signal"] == "projected time embedding") == (known["warmup"] == 5)
    rounded = [733.226, -401.132, 67.5869, -3.14988, 0.0961238]
    assert SETS["hunyuan-video"]["coefficients"] == pytest.approx(rounded, rel=1e-5)
    firsts = {"wan2.1-t2v-1.3b": 2396.77, "wan2.1-t2v-14b": -5784.55, "wan2.1-i2v-480p": -302.332}
    for name, first in firsts.items():
        assert SETS[name]["coefficients"][0] == pytest.approx(first, rel=1e-5)


def test_coefficients_by_model_by_name_and_by_hand():
    def polynomial(anatomy=None, **given):
        return gate_of("teacache", anatomy, **given).measure.coefficients

    assert polynomial() == polynomial("wan/32") == polynomial("cogvideox") == (1, 0)  # none was fitted on such a model
    for model, name in (
        ("wan/30", "wan2.1-t2v-1.3b-ret"), ("wan/40", "wan2.1-t2v-14b-ret"), ("cogvideox/30", "cogvideox-2b"),
        ("cogvideox/42", "cogvideox-5b"),
    ):  # fmt: skip
        assert polynomial(model) == tuple(SETS[name]["coefficients"])
    assert polynomial("wan/40", coefficients="wan2.1-t2v-1.3b-ret")[0] == -52186.2437
    assert polynomial("wan", coefficients=[2, 1, 0.5]) == (2, 1, 0.5)
    with pytest.raises(
        InputError, match=r"'wan2.1-t2v-1b' is not a set of coefficients. Did you mean 'wan2.1-t2v-14b'"
    ):
        polynomial(coefficients="wan2.1-t2v-1b")
    for wrong in ([], [1, "a"], 3, [math.nan]):
        with pytest.raises(InputError, match="a list of numbers, highest power first, or the name of a published set"):
            polynomial(coefficients=wrong)


def test_explicit_coefficients_go_before_a_shipped_profile_and_not_beside_a_users():
    pipe, video = PortraitPipeline.load(), Pipeline(Video())

    def polynomial(**given):
        with synccache.cached(pipe, "teacache", **given) as handle:
            gate = handle.method.gate
        while hasattr(gate, "gate"):
            gate = gate.gate
        return gate.measure.coefficients

    shipped = polynomial()
    assert len(shipped) == 5 and polynomial(coefficients=[2, 1, 0.5]) == (2, 1, 0.5)
    named = polynomial(coefficients="wan2.1-t2v-14b-ret")
    assert named == tuple(SETS["wan2.1-t2v-14b-ret"]["coefficients"]) != shipped
    with pytest.raises(InputError, match="'fluxus' is not a set of coefficients"):
        polynomial(coefficients="fluxus")
    made = synccache.planner.learn_profile(video, "teacache", lambda: video(steps=12))
    with pytest.raises(InputError, match="Give coefficients or profile, not both"):
        synccache.apply(video, "teacache", profile=made, coefficients=[1, 0])
    with pytest.raises(InputError, match="Give coefficients or profile, not both"):
        synccache.apply(video, "teacache+linear", profile=made, coefficients=[1, 0])
    with synccache.cached(pipe, "teacache+linear", coefficients=[2, 1, 0.5]) as handle:
        assert "coefficients=(2.0, 1.0, 0.5)" in repr(handle.method.gate)
    with pytest.raises(InputError, match="Give blocks or profile, not both"):
        synccache.apply(video, "profilingdit", profile=made, blocks=[1])


@pytest.mark.parametrize(
    ("anatomy", "name"), [("wan-s2v", "flux"), ("wan", "wan2.1-t2v-14b"), ("portrait", "mochi"), ("flux", "flux")]
)
def test_a_set_that_was_fitted_on_another_signal_is_refused(anatomy, name):
    with pytest.raises(InputError, match=f"{name}' was fitted on the .*; here the gate measures the .*embedding. Give"):
        gate_of("teacache", anatomy, coefficients=name)
    told = gate_of("teacache", anatomy, coefficients=name, signal=SETS[name]["signal"])
    assert told.measure.coefficients == tuple(SETS[name]["coefficients"])
    with pytest.raises(InputError, match="signal is one of 'time embedding', 'projected"):
        gate_of("teacache", anatomy, signal="noise")


def test_what_the_gate_measures_is_what_the_blocks_are_called_with():
    """The projected embedding is [B, 6, D], one row a modulation."""
    pipe = PortraitPipeline.load()
    size = pipe.transformer.config.image_size
    with synccache.cached(pipe, "teacache") as handle:
        audio = torch.zeros(1, pipe.transformer.config.frames, 5, 64)
        pipe.denoise(torch.zeros(1, 3, size, size), audio, steps=9, guidance_scale=1)
        assert handle.trace.probe_bytes_peak == 6 * 128 * 4
    assert handle.settings["signal"] == "projected time embedding"


def test_a_planted_polynomial_is_recovered():
    x = torch.linspace(0.01, 0.09, 30, dtype=torch.float64)
    planted = torch.tensor([-5e4, 9e3, -5e2, 13.0, -0.05], dtype=torch.float64)
    y = sum(c * x**p for c, p in zip(planted, range(4, -1, -1), strict=True))
    assert fitted(x, y).tolist() == pytest.approx(planted.tolist(), rel=1e-6)
    assert fitted(x[:2], 3 * x[:2] + 1).tolist() == pytest.approx([0, 0, 0, 3, 1])
    assert fitted(x[:1] * 0, x[:1]).tolist() == pytest.approx([0, 0, 0, 0, 0.01])


def test_a_profile_holds_the_polynomial_of_the_model():
    pipe = Pipeline(Video())
    profile = synccache.planner.learn_profile(pipe, "teacache", lambda: pipe(steps=20))
    with synccache.cached(pipe, "teacache", profile=profile, threshold=0.05) as handle:
        pipe(steps=20)
    p = gate_of("teacache", profile=profile).measure.coefficients
    assert p == tuple(profile.tensors["coefficients"].tolist()) and len(p) == 5
    # What the polynomial gives is the output's change: about as large in sum as what it was fitted to.
    told = [r.error for r in handle.trace.steps(0) if r.error is not None]
    recording = synccache.planner.record(pipe, lambda: pipe(steps=20), scope=synccache.scopes.Nothing())
    assert sum(told) == pytest.approx(sum(recording.changes[1:]), rel=1e-3)
    assert 0 < handle.trace.skipped() < 19


# -- all that add errors up --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dicache", "easycache", "teacache"])
@pytest.mark.parametrize("wanted", [1, 2, 9, 20])
def test_a_number_of_steps_is_kept_from_the_first_run_on(name, wanted):
    pipe = Pipeline(Video())
    with synccache.cached(pipe, name, computed_steps=wanted) as handle:
        for _ in range(2):
            pipe(steps=20)
        assert [handle.trace.computed(run) for run in range(2)] == [wanted, wanted]
