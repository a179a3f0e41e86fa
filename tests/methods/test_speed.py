"""``speed=``: which method, how many steps, what is timed, and what can't be had."""

import time
import warnings

import pytest
import torch
from torch import nn

import synccache
from synccache import InputError, Method, Notice
from synccache.defaults import DEFAULTS, OTHERS
from synccache.forecasters import Reuse
from synccache.gates import Interval, Never
from synccache.scopes import WholeStack
from synccache.testing import Pipeline, Video

pytestmark = pytest.mark.filterwarnings("ignore:speed=")  # of so small models, a skipped step may cost anything
STEPS = 20


class Slow(nn.Module):
    """Takes ``seconds`` in each of six blocks, and ``beside`` outside of them."""

    def __init__(self, seconds, beside=0.0):
        super().__init__()
        self.blocks = nn.ModuleList(Sleeping(seconds) for _ in range(6))
        self.beside = beside

    def forward(self, hidden_states, timestep):
        time.sleep(self.beside)
        for block in self.blocks:
            hidden_states = block(hidden_states)
        return hidden_states


class Sleeping(nn.Module):
    def __init__(self, seconds):
        super().__init__()
        self.seconds, self.scale = seconds, nn.Parameter(torch.tensor(0.01))

    def forward(self, x):
        time.sleep(self.seconds)
        return x + self.scale * x


def run(model, steps=STEPS):
    x = torch.randn(1, 8, 4)
    for i in range(steps):
        with torch.no_grad():
            x = x - 0.02 * model(x, torch.tensor([1000.0 - 1000 * i / steps]))


def test_what_a_skipped_step_costs_is_timed():
    """One of six blocks runs on skipped steps: a sixth, and what the engine takes, so fewer than half are computed."""
    model = Slow(0.004)
    with synccache.cached(model, "synccache", speed=2, steps=STEPS) as handle:
        run(model)
        run(model)
    cost = handle.engine.timing.cost
    assert 0.16 < cost < 0.5
    computed = [handle.trace.computed(run) for run in range(2)]
    expected = STEPS * (0.5 - cost) / (1 - cost)
    assert abs(computed[1] - expected) <= 1.5 and computed[1] < STEPS / 2


def test_a_speed_that_cannot_be_had_is_said_with_the_highest_that_can():
    model = Slow(0.0, beside=0.004)
    with synccache.cached(model, "synccache", speed=4, steps=STEPS) as handle:
        with pytest.warns(Notice, match=r"speed=4 can't be had here.*with 5 of 20 steps computed.* 1\.\d times faster"):
            run(model)
        assert handle.trace.computed() == 5
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # once
            run(model)


@pytest.mark.parametrize("method", ["synccache", "interval", "teacache", "taylorseer", "foca", "easycache", "fora"])
def test_methods_with_rules_of_their_own_take_a_speed(method):
    pipe = Pipeline(Video())
    with synccache.cached(pipe, method, speed=1.5) as handle:
        pipe()
    steps = len(handle.trace.steps())
    assert 5 <= handle.trace.computed() <= max(5, round(steps / 1.5)) and handle.trace.skipped() > 0
    assert handle.settings["speed"] == 1.5 and handle.settings.get("computed_steps") is None


def test_the_fastest_uncached_run_computes_everything():
    pipe = Pipeline(Video())
    with synccache.cached(pipe, speed=1) as handle:
        pipe()
    assert handle.trace.skipped() == 0


def test_a_speed_alone_takes_the_models_default():
    with synccache.cached(Pipeline(Video()), speed="fast") as handle:
        assert handle.method.name == OTHERS.method and handle.engine.pace.speed == 4
    with synccache.cached(Pipeline(Video())) as handle:
        assert handle.method.name == "synccache"
    assert {default.method for default in (*DEFAULTS.values(), OTHERS)} <= set(synccache.methods())
    assert "portrait" in synccache.methods()["synccache-cfg"].info()["default_for"]


@pytest.mark.parametrize("other", [{"threshold": 0.1}, {"computed_steps": 9}])
def test_a_speed_and_another_number_of_steps_are_refused(other):
    with pytest.raises(InputError, match="speed or"):
        synccache.apply(Video(), "synccache", speed=3, **other)


def test_what_never_skips_takes_no_speed():
    with pytest.raises(InputError, match="skips no step"):
        synccache.apply(Video(), "none", speed=3)
    with pytest.raises(InputError, match="skips no step"):
        synccache.apply(Video(), Method(Never(), WholeStack(), Reuse()), speed=3)


def test_a_composed_method_takes_a_speed():
    pipe = Pipeline(Video())
    with synccache.cached(pipe, Method(Interval(7), WholeStack(), Reuse()), speed=1.5) as handle:
        pipe()
    assert handle.trace.computed() > len(handle.trace.steps()) // 7 + 1


def test_a_speed_is_saved(tmp_path):
    with synccache.cached(Video(), "synccache", speed="fast") as handle:
        saved = handle.save(tmp_path / "fast.json")
    with synccache.cached(Video(), settings=saved) as handle:
        assert handle.settings["speed"] == "fast" and handle.engine.pace.speed == 4


def test_fewer_steps_are_made_of_a_speed():
    pipe = Pipeline(Video())
    with synccache.cached(pipe, "fewer-steps", speed=2) as handle:
        pipe(steps=16)
    assert len(handle.trace.steps()) == 8
