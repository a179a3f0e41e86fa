"""Guidance that is forecast: which pass leads, where the unconditional one comes first, and what is live of it."""

import pytest
import torch
from loops import LATENT, call, noise, prompt, small
from models import official, official_avatar

import synccache
from synccache import Method, Notice
from synccache.forecasters import Lagrange, Reuse
from synccache.gates import Listed
from synccache.scopes import Nothing, Segments
from synccache.testing import distance

ORDER = r"other branches.*handle\.at\(branch=\"cond\"\)|conditional one.*handle\.at\(branch=\"cond\"\)"
FIRST = Listed(frozenset({0, 1}))
METHODS = {
    "synccache-cfg": Method(FIRST, Segments(), Reuse(), guidance=Reuse()),
    "uncond-reuse": Method(FIRST, Nothing(), Reuse(), guidance=Reuse()),
    "linear": Method(FIRST, Segments(), Lagrange(1), guidance=Lagrange(1)),
}


def avatar():
    """HunyuanVideo-Avatar as its pipeline calls it with its weights offloaded: a call for each pass, which are halves
    of what goes together otherwise. The unconditional one hears silence."""
    both, shared = official_avatar.avatar_inputs(), ("freqs_cos", "freqs_sin")
    uncond, cond = ({k: v if k in shared else v[n : n + 1] for k, v in both.items()} for n in (0, 1))
    return official_avatar.avatar(), cond, uncond, {**cond, "audio_prompts": cond["audio_prompts"] * 0.5 + 1}


def s2v():
    """Wan2.2-S2V: the conditional pass first; the unconditional one gets silence."""
    cond = official.s2v_inputs()
    silent = {**cond, "audio_input": torch.zeros_like(cond["audio_input"])}
    return official.s2v(), cond, silent, {**cond, "audio_input": cond["audio_input"] * 0.5 + 1}


MODELS = {"avatar": avatar, "s2v": s2v}


def run(make, method, order, fresh=False, names=False):
    """Six steps, the last of which hears another sound: (its two outputs, the true ones, the stale ones, handle)."""
    model, cond, uncond, heard = make()

    def at(step, given):
        given = {k: v.clone() if fresh and isinstance(v, torch.Tensor) else v for k, v in given.items()}
        x = given.pop("x")
        return call(model, x, torch.tensor([900.0 - 0.01 * step]), given, "x", "t")

    with torch.no_grad():
        true, stale = [at(5, heard), at(5, uncond)], [at(5, cond), at(5, uncond)]
        with synccache.cached(model, method) as handle:
            for step in range(6):
                given, out = [heard if step == 5 else cond, uncond], [None, None]
                for number in order:
                    with handle.at(branch=("cond", "uncond")[number] if names else None):
                        out[number] = at(step, given[number])
    return out, true, stale, handle


@pytest.mark.parametrize(("names", "fresh"), [(False, False), (False, True), (True, False)])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", MODELS)
def test_the_conditional_pass_first_hears_this_steps_sound(model, method, names, fresh):
    out, true, stale, handle = run(MODELS[model], METHODS[method], (0, 1), fresh, names)
    lead, follower = handle.trace.records[-2:]
    if method == "uncond-reuse":  # it runs in full; the other is computed, since what it adds to the lead is void
        assert torch.equal(out[0], true[0])
        assert torch.equal(out[1], true[1]) or follower.reason == "guidance"
    else:
        assert lead.decision == "skipped" and distance(out[0], true[0]) < 0.7 * distance(stale[0], true[0])
    before = [r for r in handle.trace if r.step == 4]
    assert [r.decision for r in before] == ["skipped"] * 2 and before[1].reason == "guidance"


@pytest.mark.parametrize(("names", "fresh"), [(False, False), (False, True), (True, False)])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", MODELS)
def test_the_unconditional_pass_first_is_said_and_nothing_is_stale(model, method, names, fresh):
    """The conditional one can't be told from it: its sound would be that of an earlier step."""
    with pytest.warns(Notice, match=ORDER) as said:
        out, true, stale, handle = run(MODELS[model], METHODS[method], (1, 0), fresh, names)
    assert len(said) == 1
    assert "guidance" not in {r.reason for r in handle.trace}
    assert distance(out[0], true[0]) < 0.7 * distance(stale[0], true[0])
    assert distance(out[1], true[1]) < 0.02
    if method == "uncond-reuse":
        assert torch.equal(out[0], true[0]) and torch.equal(out[1], true[1])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_sounds_neither_of_them_silence_are_not_guessed_at(order):
    """Both passes hear something: nothing tells which one is the conditional one."""

    def make():
        model, cond, _, heard = s2v()
        return model, cond, {**cond, "context": [noise(8, 5, 12)]}, heard

    with pytest.warns(Notice, match=ORDER):
        out, true, stale, handle = run(make, METHODS["synccache-cfg"], order)
    assert "guidance" not in {r.reason for r in handle.trace}
    assert distance(out[0], true[0]) < 0.7 * distance(stale[0], true[0])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_where_nothing_enters_between_the_blocks_either_may_lead(order):
    """Of text alone nothing would be stale that is live otherwise."""
    model, texts = small(), [prompt(1), prompt(2)]
    with torch.no_grad(), synccache.cached(model, METHODS["synccache-cfg"]) as handle:
        for step in range(4):
            for number in order:
                given = {**texts[number], "return_dict": False}
                call(model, noise(1, *LATENT), torch.tensor([900.0 - step]), given, "hidden_states", "timestep")
    assert [r.reason for r in handle.trace][-2:] == ["listed", "guidance"]


def test_three_passes_of_which_two_are_told_from_the_first():
    model, x = small(), noise(1, *LATENT)
    texts = [{**prompt(n), "return_dict": False} for n in (1, 2, 3)]
    at = lambda step, text: call(model, x, torch.tensor([900.0 - 0.01 * step]), text, "hidden_states", "timestep")  # noqa: E731
    with torch.no_grad():
        true = [at(3, text) for text in texts]
        with synccache.cached(model, METHODS["uncond-reuse"]) as handle:
            found = [[at(step, text) for text in texts] for step in range(4)][-1]
    assert [r.reason for r in handle.trace][-3:] == ["listed", "guidance", "guidance"]
    assert torch.equal(found[0], true[0]) and all(distance(a, b) < 1e-3 for a, b in zip(found, true, strict=True))
