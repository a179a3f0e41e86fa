"""Gates that look at the model: their errors by hand, and what they decide through the engine."""

import math

import pytest
import torch

import synccache
from synccache import Method
from synccache.core.types import Action, Seen, Step, Tap
from synccache.errors import UnsupportedModel
from synccache.forecasters import Reuse
from synccache.gates import (
    FirstBlock,
    Listed,
    MaxSkips,
    OutputChange,
    Probe,
    Residual,
    Signal,
    Threshold,
    Trajectory,
    Warmup,
    replay,
)
from synccache.gates.change import change
from synccache.scopes import WholeModel, WholeStack
from synccache.testing import AddModel, Video

X = torch.full((1, 2, 3), 20.0)


def quotients(measured):
    return [[float(n / d) for n, d in sample.unflatten(0, (-1, 2))] for sample in measured]


def run(model, method, calls, **settings):
    """Outputs and decisions of calls (x, timestep, level) of an ``AddModel``; whole tensors of one number each."""
    outs = []
    with torch.no_grad(), synccache.cached(model, method, **settings) as handle:
        for x, t, level in calls:
            outs.append(model(torch.as_tensor(x), torch.tensor([float(t)]), torch.tensor(float(level))))
    return [sorted(set(o.flatten().tolist())) for o in outs], [d == "skipped" for d in handle.trace.decisions()]


# -- change ------------------------------------------------------------------------------------------------------


def test_change_is_per_sample_and_in_float32():
    now, before = torch.tensor([[1.0, 3.0], [0.0, -2.0]]), torch.tensor([[1.0, 2.0], [1.0, 1.0]])
    assert change(now, before).tolist() == [[1, 3], [4, 2]]
    assert change(now[0], before[0]).tolist() == [[1, 3]]
    half = torch.full((1, 1001), 1.0, dtype=torch.bfloat16)
    assert change(half * 2, half).tolist() == [[1001, 1001]]  # which bfloat16 can't hold


# -- first block -------------------------------------------------------------------------------------------------


def test_first_block_compares_with_the_last_computed_step():
    tap = Tap(torch.full((1, 4, 2), 3.0), torch.full((1, 4, 2), 9.0), (torch.full((1, 4, 2), 2.0),))
    assert quotients(Residual().measure(Seen({"residual": tap}))) == [[0.5]]
    assert Residual().measure(Seen({"residual": Tap(tap.now)})) is None
    assert Residual().measure(Seen()) is None


def test_first_block_adds_nothing_up():
    gate = FirstBlock(0.05, blocks=3)
    assert replay(gate, [None, 0.04, 0.04, 0.04, 0.06, 0.05]) == [True, False, False, False, True, False]
    assert gate.measure == Residual(3)
    for bad in (math.nan, math.inf):
        assert gate.decide(None, Step(3), Seen(ratios=((0.0,), (bad,))))[0].action is Action.COMPUTE


def test_first_block_through_the_engine():
    """The first block adds the level itself, so the error is the level's change since the last computed step."""
    levels = [10, 10.25, 10.5, 10.75, 11, 10.75]
    outs, skipped = run(
        AddModel(), Method(FirstBlock(0.06), WholeStack(), Reuse()), [(X, 1000 - i, v) for i, v in enumerate(levels)]
    )
    assert skipped == [False, True, True, False, True, True]
    assert outs == [[20 + 60], [30.25 + 50], [30.5 + 50], [20 + 6 * 10.75], [31 + 5 * 10.75], [30.75 + 5 * 10.75]]


# -- the number of skips -----------------------------------------------------------------------------------------


def test_max_skips():
    assert replay(MaxSkips(Listed(frozenset({3})), 4), [None] * 8) == [
        True,
        False,
        False,
        True,
        False,
        False,
        True,
        True,
    ]
    assert replay(MaxSkips(Warmup(Listed(frozenset()), 2), 3), [None] * 7)[1:] == [
        True,
        False,
        False,
        False,
        True,
        True,
    ]
    gate = MaxSkips(Threshold(1.0, Probe(blocks=2)), 3)
    state = gate.init(None)
    decision, state = gate.decide((state[0], None, 3), Step(5), Seen(ratios=((0.25,),)))
    assert (decision.action, decision.error, decision.total) == (
        Action.COMPUTE,
        0.25,
        0.25,
    )  # the sum is told all the same


# -- trajectory --------------------------------------------------------------------------------------------------


def test_trajectory_by_hand():
    def full(*values):
        return torch.stack([torch.full((4, 2), float(v)) for v in values])

    probe = Tap(full(6, 5), full(4, 4))
    taps = {"probe": probe, "residual": Tap(full(3, 1), None, (full(2, 4), full(1, 2)))}
    assert quotients(Trajectory().measure(Seen(taps))) == [[0.5, 2.0], [0.25, 0.5]]
    one = {"probe": probe, "residual": Tap(full(3, 1), None, (full(2, 4),))}
    assert Trajectory().measure(Seen(one)).tolist() == [[16, 32, 0, 0], [8, 32, 0, 0]]
    assert Trajectory().measure(Seen({"probe": Tap(full(6, 5))})) is None


def test_trajectory_is_the_uniform_probe_by_default():
    now, before = torch.tensor([[[3.0], [2.0]]]), torch.tensor([[[2.0], [2.0]]])
    seen = Seen({"probe": Tap(now, before)}, mask=torch.tensor([[1.0, 0.0]]))
    assert quotients(Trajectory().measure(seen)[:, :2]) == [[0.25]]
    assert quotients(Trajectory(omega=2).measure(seen)[:, :2]) == [[pytest.approx(2 / 6)]]


# -- output change -----------------------------------------------------------------------------------------------


def seen_of(x, before, x0, x1, v0, v1):
    return Seen({"latent": Tap(x, before, (x0, x1)), "output": Tap(None, None, (v0, v1))})


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 4, 1, 2, 2)])
def test_output_change_by_hand(shape):
    def full(*values):
        return torch.stack([torch.full(shape[1:], float(v)) for v in values])

    # k = |7-4| / |3-1| = 1.5 and |9-9| = 0; e = k |5-4| / 7
    seen = seen_of(full(5, 5), full(4, 4), full(3, 3), full(1, 1), full(-7, 9), full(-4, 9))
    (first,), (second,) = quotients(OutputChange().measure(seen))
    assert first == pytest.approx(1.5 / 7) and second == 0


def test_output_change_takes_four_dimensions_as_one():
    x, y = torch.zeros(2, 4, 2, 2), torch.ones(2, 4, 2, 2)
    x[0] = 3
    assert OutputChange().measure(seen_of(x, y, y, x, y, x)).tolist() == [[1.5 * 1.5, 1.5 * 1]]


def test_output_change_needs_two_computed_steps():
    x = torch.ones(1, 2, 2)
    for latent, output in [((x, x), (x,)), ((x,), (x, x)), ((), ())]:
        taps = {"latent": Tap(x, x, latent), "output": Tap(None, None, output)}
        assert OutputChange().measure(Seen(taps)) is None
    assert OutputChange().measure(Seen({"latent": Tap(x, None, (x, x)), "output": Tap(None, None, (x, x))})) is None


def test_output_change_through_the_engine():
    """The output is the latent plus 6 levels: k is 1 while the level stands, and e the latent's change over v."""
    model, gate = AddModel(), Threshold(0.1, OutputChange())
    xs, level = [20, 21, 22, 23, 24, 25], 0.5
    calls = [(torch.full((1, 2, 3), float(x)), 1000 - i, level) for i, x in enumerate(xs)]
    calls[2:4] = [(*c[:2], 99) for c in calls[2:4]]  # nothing of the model runs, whatever it is called with
    outs, skipped = run(model, Method(gate, WholeModel(residual=True), Reuse()), calls)
    # 1/24 twice is 0.083, a third time 0.125: computed; then k is 1 from the steps 1 and 4, and 1/27 is below again.
    assert skipped == [False, False, True, True, False, True]
    assert outs == [[23], [24], [25], [26], [27], [28]]
    assert [b.calls for b in model.blocks] == [3, 3, 3]


def test_output_change_sees_a_steeper_output():
    """With a level that rises from 0 to 1, the output rises by 7 while the latent rises by 1: k = 7."""
    calls = [(torch.full((1, 2, 3), float(x)), 1000 - x, level) for x, level in ((20, 0), (21, 1), (22, 1))]
    model, method = AddModel(), Method(Threshold(9.0, OutputChange()), WholeModel(True), Reuse())
    with torch.no_grad(), synccache.cached(model, method) as handle:
        for x, t, level in calls:
            model(x, torch.tensor([float(t)]), torch.tensor(float(level)))
        assert handle.trace.records[-1].error == pytest.approx(7 / 27)


# -- signal ------------------------------------------------------------------------------------------------------


def test_signal_by_hand():
    seen = Seen({"signal": Tap(torch.tensor([[3.0, 3.0], [2.0, 2.0]]), torch.full((2, 2), 2.0))})
    assert quotients(Signal().measure(seen)) == [[0.5], [0]]
    assert quotients(Signal((4.0, -2.0, 3.0, 0.25)).measure(seen)) == [[4 / 8 - 2 / 4 + 3 / 2 + 0.25], [0.25]]
    assert quotients(Signal((1.0, -1.0)).measure(seen)) == [[-0.5], [-1]]  # a polynomial may fall below 0
    assert Signal().measure(Seen({"signal": Tap(torch.ones(1, 2))})) is None
    still = Signal().measure(Seen({"signal": Tap(torch.ones(1, 2), torch.zeros(1, 2))}))
    assert not math.isfinite(quotients(still)[0][0])


def teacache_schedule(times, coefficients, threshold):
    """The published rule on numbers alone."""
    total, computed = 0.0, [True]
    for now, before in zip(times[1:], times, strict=False):
        x = abs(now - before) / before
        total += sum(c * x**p for p, c in enumerate(reversed(coefficients)))
        computed.append(total > threshold)
        total = 0.0 if computed[-1] else total
    return computed


@pytest.mark.parametrize(("coefficients", "threshold"), [((1.0, 0.0), 0.25), ((30.0, -6.0, 2.0, -0.02), 0.19)])
def test_signal_decides_by_the_timestep_alone(coefficients, threshold):
    """The toy's embedding is the timestep itself, so its change is known; other latents change nothing."""
    times = torch.linspace(1000, 100, 20).round().tolist()
    model = Video()
    method = Method(Threshold(threshold, Signal(coefficients)), WholeStack(), Reuse())
    expected = teacache_schedule(times, coefficients, threshold)
    assert 4 < sum(expected) < 16
    for seed in (0, 1):
        random = torch.Generator().manual_seed(seed)
        with torch.no_grad(), synccache.cached(model, method) as handle:
            for step, t in enumerate(times):
                with handle.at(step=step):
                    model(torch.randn(1, 4, 2, 4, 4, generator=random), torch.tensor([t]), torch.ones(1, 8))
        assert [d == "computed" for d in handle.trace.decisions()] == expected


def test_a_model_without_a_time_embedding_is_refused():
    with pytest.raises(
        UnsupportedModel, match="decides by the time embedding, and AddBlock is called with none of temb"
    ):
        run(AddModel(), "teacache", [(X, 1000, 1), (X, 900, 1)], steps=10)
