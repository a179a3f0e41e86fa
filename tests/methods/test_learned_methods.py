"""L2P and searched schedules: what they learn, and what they refuse."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import synccache
from synccache import Anatomy, InputError
from synccache.gates import Listed
from synccache.methods import RECIPES
from synccache.methods.l2p import RELEASED, steps_to_compute
from synccache.planner import learn_profile
from synccache.testing import Pipeline, Video, WanModel_S2V, distance, s2v_inputs


class Recurrent(nn.Module):
    """Returns, at step i, ``sum_k c_k^i v_k`` for three c: a linear recurrence of order three, whatever the latent."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Identity()])
        self.anatomy = Anatomy("recurrent", tuple(self.blocks))
        self.calls = 0
        self.parts = torch.randn(3, 1, 4, 6, generator=torch.Generator().manual_seed(0))

    def forward(self, hidden_states, timestep):
        self.calls += 1
        step = 12 - float(timestep)
        self.blocks[0](hidden_states)
        return sum(c**step * part for c, part in zip((0.95, 0.6, -0.4), self.parts, strict=True))


def run_recurrent(model, steps=12):
    return [model(torch.zeros(1, 4, 6), torch.tensor([12.0 - i])) for i in range(steps)]


@pytest.fixture(scope="module")
def rows():
    model = Recurrent()
    return learn_profile(model, "l2p", lambda: run_recurrent(model), anatomy=model.anatomy, steps=12)


def test_a_planted_recurrence_is_continued_and_the_model_is_not_called(rows):
    model = Recurrent()
    whole = torch.stack(run_recurrent(model))
    model.calls = 0
    given = {"profile": rows, "steps": 12, "schedule": [0, 1, 2, 3], "anatomy": model.anatomy}
    with torch.no_grad(), synccache.cached(model, "l2p", **given) as handle:
        out = torch.stack(run_recurrent(model))
    assert model.calls == 4 and handle.trace.skipped() == 8
    for step in range(12):  # exact but for the slight pull towards reuse, which adds up along the rollout
        assert distance(out[step], whole[step]) < 0.02, step


def test_rows_beat_reuse_on_a_pipeline():
    pipe = Pipeline(Video())
    profile = learn_profile(pipe, "l2p", lambda: pipe(steps=30))
    plain, errors = pipe(steps=30, seed=3), {}
    with synccache.cached(pipe, "l2p", profile=profile) as handle:
        errors["l2p"] = distance(pipe(steps=30, seed=3), plain)
        schedule = handle.method.gate.schedule
        method = synccache.Method(handle.method.gate, handle.method.scope, synccache.forecasters.Reuse())
    with synccache.cached(pipe, method):
        errors["reuse"] = distance(pipe(steps=30, seed=3), plain)
    assert errors["l2p"] < errors["reuse"] / 3 and len(schedule) == len(steps_to_compute(5, 30)) == 10


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("name", ["schedule", "searched"])
def test_searched_steps_beat_even_spacing(name, order):
    pipe = Pipeline(Video())
    profile = learn_profile(pipe, name, lambda: pipe(steps=30))
    plain, errors = pipe(steps=30, seed=3), {}
    with synccache.cached(pipe, name, order=order, computed_steps=8, profile=profile) as handle:
        searched = handle.method
    evenly = replace(searched, gate=Listed(frozenset({0, 4, 8, 12, 16, 21, 25, 29})))
    for method in (searched, evenly):
        with synccache.cached(pipe, method) as handle:
            pipe(steps=30)  # where its sites are found
            errors[method] = distance(pipe(steps=30, seed=3), plain)
            assert handle.trace.computed() == 8
    assert errors[searched] < errors[evenly]
    with synccache.cached(pipe, searched), pytest.raises(InputError, match="of 30 steps, and this run has 12"):
        pipe(steps=12)


def test_released_schedules_are_kept_at_50_steps_and_scaled_elsewhere():
    for interval, schedule in RELEASED.items():
        assert steps_to_compute(interval, 50) == schedule
        for total in (8, 20, 40, 100):
            scaled = steps_to_compute(interval, total)
            assert scaled[0] == 0 and scaled[-1] < total and len(scaled) <= len(schedule)
    assert steps_to_compute(5, 99) == tuple(2 * i for i in RELEASED[5])
    assert steps_to_compute(2, 9) == (0, 1, 2, 4, 6, 8) and steps_to_compute(4, 2) == (0, 1)


def test_another_number_of_steps_is_refused(rows):
    model = Recurrent()
    given = {"profile": rows, "anatomy": model.anatomy}
    with torch.no_grad():
        for steps, says in ((11, "this run has 11"), (None, "nobody tells how long this run is")):
            refused = pytest.raises(InputError, match=f"for runs of 12 steps, and {says}.*learn_profile\\(pipe, 'l2p'")
            with synccache.cached(model, "l2p", steps=steps, **given), refused:
                run_recurrent(model)
        with synccache.cached(model, "l2p", steps=12, warmup=3, max_gap=4, **given) as handle:
            run_recurrent(model)
            assert handle.trace.skipped() > 0


@pytest.mark.parametrize("name", ["l2p", "schedule", "searched"])
def test_another_schedule_of_as_many_steps_is_refused(name):
    """Another shift, say: same scheduler, same number of steps, other timesteps. Rounded ones pass."""
    pipe = Pipeline(Video())
    settings = {} if name == "l2p" else {"computed_steps": 5}
    made = learn_profile(pipe, name, lambda: pipe(steps=12))
    half = replace(made, timesteps=tuple(torch.tensor(made.timesteps).bfloat16().tolist()))
    shifted = replace(made, timesteps=tuple(3 * t / (1 + 2 * t / 1000) for t in made.timesteps))
    for profile in (made, half):
        with synccache.cached(pipe, name, profile=profile, **settings) as handle:
            pipe(steps=12)
            assert handle.trace.skipped() > 0
    refused = pytest.raises(InputError, match=rf"step 1 has the timestep 970.*; this run's has 916.*pipe, '{name}'")
    with synccache.cached(pipe, name, profile=shifted, **settings), refused:
        pipe(steps=12)


def test_without_a_profile_it_says_how_to_get_one():
    with pytest.raises(InputError, match=r"'l2p' needs profile=.*learn_profile\(pipe, 'l2p'"):
        synccache.apply(Video(), "l2p")


@pytest.mark.parametrize("name", ["magcache", "l2p"])
def test_learnt_on_a_model_with_in_place_injections(name):
    """On Wan-S2V's structure, in two guidance branches, from file to use."""
    model, inputs = WanModel_S2V().eval(), s2v_inputs()

    def run():
        for t in torch.linspace(1000, 50, 20).tolist():
            for audio in (inputs.audio_input, torch.zeros(1, 16)):
                out = model(inputs.x, torch.tensor([t]), inputs.context, None, audio, inputs.ref_latents)
        return out[0]

    made = learn_profile(model, name, run, steps=20)
    assert made.steps == 20 and made.model["sites"] == [0, 2, 4, 6]
    with torch.no_grad(), synccache.cached(model, name, profile=made, steps=20) as handle:
        assert torch.isfinite(run()).all() and handle.trace.skipped() > 5


def test_what_they_say_of_themselves():
    for name in ("magcache", "l2p"):
        info = RECIPES[name].info()
        assert info["learns"] and "profile" in info["needs"] and info["settings"]["profile"] is None
