"""Numbers come from the device together, once a call at most. Where there are several timesteps all wait there."""

import pytest
import torch
from calls import Echo, cached, picture, prompt, seen

from synccache import Method
from synccache.forecasters import Reuse
from synccache.gates import Listed, Never, Probe, Threshold
from synccache.scopes import Nothing, WholeModel, WholeStack

STACK, STEPS = WholeStack(absorb=False), 12
METHODS = {
    "listed": Method(Listed(frozenset({0, 5})), STACK, Reuse()),
    "threshold": Method(Threshold(0.3, Probe()), STACK, Reuse()),
    "model": Method(Listed(frozenset({0, 5})), WholeModel(), Reuse()),
    "never": Method(Never(), Nothing(), Reuse()),
    "guidance": Method(Listed(frozenset({0, 5})), STACK, Reuse(), guidance=Reuse()),
}


def run(model, passes, batch=2, fresh=False, latent=lambda step: 1 - 0.03 * step):
    """``STEPS`` steps with as many passes each; ``fresh``: latent and conditioning are copies in each call."""
    texts = [prompt(number) for number in reversed(range(passes))]  # the last one is silent
    with torch.no_grad():
        for step in range(STEPS):
            time = torch.full((batch,), 1000.0 - 50 * step)
            x = picture(1).repeat(batch, 1, 1) * latent(step)
            for text in texts:
                model(x.clone() if fresh else x, time, text.clone() if fresh else text)


@pytest.mark.parametrize("name", METHODS)
def test_once_a_step_where_objects_are_kept_whatever_the_number_of_passes(name):
    for passes in (1, 2, 4):
        model = Echo()
        with cached(model, METHODS[name]) as handle:
            run(model, passes)
            # at the first step, each further pass has to be seen to be another one
            assert handle.host_reads == STEPS + passes - 1


@pytest.mark.parametrize("name", METHODS)
def test_once_a_call_at_most_where_all_tensors_are_new_in_each(name):
    for passes in (1, 2, 4):
        model = Echo()
        with cached(model, METHODS[name]) as handle:
            run(model, passes, fresh=True)
            assert handle.host_reads == STEPS * passes


def test_one_timestep_and_a_latent_that_is_kept_need_none():
    model = Echo()
    with cached(model, METHODS["listed"]) as handle, torch.no_grad():
        x, text = picture(1), prompt(1)
        for step in range(STEPS):
            model(x, torch.tensor([1000.0 - step]), text)
        assert handle.host_reads == 1  # the prompt as the first block got it


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("passes", [1, 2])
def test_what_is_found_is_the_same_whenever_the_timestep_arrives(name, passes):
    """One timestep is read when the call begins; two of them only when the gate decides."""
    found, errors = [], []
    for batch in (1, 2):
        model = Echo()
        with cached(model, METHODS[name]) as handle:
            for _ in range(2):  # the second run begins where time turns back
                run(model, passes, batch)
            found.append(
                seen(handle, "run", "step", "evaluation", "branch", "decides", "timestep", "decision", "reason")
            )
            errors.append([r.error or 0.0 for r in handle.trace])
    assert found[0] == found[1] and len(found[0]) == 2 * STEPS * passes
    assert errors[0] == pytest.approx(errors[1])
    assert {(run, step) for run, step, *_ in found[0]} == {(run, step) for run in (0, 1) for step in range(STEPS)}


def test_a_jump_to_another_picture_is_seen_in_time_wherever_the_gate_decides():
    for name in METHODS:
        model = Echo()
        with cached(model, METHODS[name]) as handle, torch.no_grad():
            for step, seed in enumerate((1, 1, 1, 2, 2)):
                x, text = picture(seed, number=seed).repeat(2, 1, 1), prompt(0)
                out = model(x, torch.full((2,), 1000.0 - step), text) - x
                assert float(out[0, -1, 0]) == 7 * seed
            assert seen(handle, "run", "step") == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
