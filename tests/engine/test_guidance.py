"""Branches filled in from the deciding one's output: exact, never stale, never the conditional one."""

from contextlib import nullcontext

import pytest
import torch
from calls import Echo, cached, decisions, echo, picture, prompt

import synccache
from synccache import InputError, Method, Notice
from synccache.forecasters import Lagrange, Reuse
from synccache.gates import Listed, Never
from synccache.scopes import WholeStack
from synccache.testing import AddModel, Pipeline, Video

X = torch.full((1, 2, 3), 20.0)


def call(model, timestep, level, x=X, name=None):
    context = model.cache_context(name) if name else nullcontext()
    with torch.no_grad(), context:
        out = model(x.clone(), torch.tensor([float(timestep)]), torch.tensor(float(level)))
    return float(out.flatten()[0])


def method(*steps, guidance=None, gate=None):
    residuals = WholeStack(absorb=False)
    return Method(gate or Listed(frozenset(steps)), residuals, Reuse(), guidance=guidance or Reuse())


class Named(AddModel):
    """With diffusers' way of naming branches."""

    def cache_context(self, name):
        return nullcontext()


def test_the_other_branch_is_the_deciding_ones_output_and_the_stored_difference():
    model = AddModel()
    with cached(model, method(0)) as handle:
        assert [call(model, 1000, 4), call(model, 1000, 1)] == [44, 26]
        moved = X + 5
        before = model.blocks[0].calls
        assert [call(model, 900, 9, moved), call(model, 900, 1, moved)] == [49, 31]  # 31 = 49 + (26 - 44)
        assert model.blocks[0].calls == before
        assert [r.reason for r in handle.trace][2:] == ["listed", "guidance"]
        assert [r.decision for r in handle.trace] == ["computed", "computed", "skipped", "skipped"]


def test_a_difference_that_grows_evenly_is_forecast_exactly():
    model = AddModel()
    with cached(model, method(0, 2, guidance=Lagrange(1))):
        call(model, 1000, 4), call(model, 1000, 3)
        call(model, 900, 4), call(model, 900, 3)
        assert [call(model, 800, 4), call(model, 800, 1)] == [44, 26]  # -6, then -18: -24 a step later
        assert [call(model, 700, 4), call(model, 700, 0)] == [44, 20]


def test_a_branch_named_conditional_always_follows_its_own_conditioning():
    model = Named()
    with cached(model, method(0)) as handle, pytest.warns(Notice, match="here it doesn't come first") as said:
        for timestep, (cond, uncond) in ((1000, (4, 1)), (900, (9, 1))):
            out = [call(model, timestep, uncond, name="uncond"), call(model, timestep, cond, name="cond")]
        assert out == [26, 44]  # both from residuals of their own: the gate's doing, not guidance's
        assert "guidance" not in [r.reason for r in handle.trace] and len(said) == 1


@pytest.mark.parametrize("names", [("cond", "uncond"), ("positive", "b"), ("a", "negative"), (None, None)])
@pytest.mark.parametrize("order", [1, -1])
def test_live_sound_is_heard_in_every_pass_whichever_comes_first(names, order):
    """Names tell which one is conditional, or silence does: zeros where the other has values."""
    model, text, silence, before, after = Echo(), prompt(1), prompt(0), prompt(2), prompt(5)
    anatomy = synccache.Anatomy("echo", tuple(model.blocks), sites=(0, 1), live=("audio",))
    noticed = pytest.warns(Notice, match="Call the conditional one first") if order < 0 else nullcontext()
    with cached(model, method(0), anatomy=anatomy) as handle, noticed:
        for step, sound in enumerate((before, before, after)):
            for name, audio in ((names[0], sound), (names[1], silence))[::order]:
                with handle.at(branch=name):
                    heard = echo(model, 1000 - step, picture(1), text, audio=audio)
                    # what the other pass adds is forecast, and with it what it had of the old sound
                    told = order > 0 and step == 2 and audio is silence
                    assert heard == 1 + 2 * (3 if told else float(audio.mean()))
        assert decisions(handle) == "##...." and ("guidance" in {r.reason for r in handle.trace}) is (order > 0)


@pytest.mark.parametrize("names", [("cond", "b"), ("a", "uncond")])
def test_one_name_is_enough(names):
    model, texts, sound = Echo(), (prompt(1), prompt(2)), prompt(3)
    with cached(model, method(0)) as handle:
        for step in range(3):
            for name, text in zip(names, texts, strict=True):
                with handle.at(branch=name):
                    echo(model, 1000 - step, picture(1), text, audio=sound)
    assert [r.reason for r in handle.trace] == ["listed", "follows"] + ["listed", "guidance"] * 2


def test_where_nothing_tells_which_one_is_conditional_it_depends_on_what_is_live():
    for sound in (None, prompt(1)):
        model, texts = Echo(), (prompt(1), prompt(2))
        noticed = pytest.warns(Notice, match="nothing tells which one it is") if sound is not None else nullcontext()
        with cached(model, method(0)) as handle, noticed:
            for step in range(3):
                for text in texts:
                    echo(model, 1000 - step, picture(1), text, audio=sound)
        assert ("guidance" in {r.reason for r in handle.trace}) is (sound is None)


def test_whichever_branch_comes_first_no_difference_is_taken_from_the_wrong_one():
    model = AddModel()
    with cached(model, method(0)) as handle:
        call(model, 1000, 4), call(model, 1000, 1)
        assert [call(model, 900, 1), call(model, 900, 4)] == [26, 44]  # order reversed: nothing fits, both computed
        assert [r.decision for r in handle.trace][2:] == ["computed", "computed"]
        assert [call(model, 800, 4), call(model, 800, 1)] == [44, 26]


def test_only_what_is_needed_is_stored_and_all_of_it_is_counted():
    held = {}
    for name, guidance in (("regions", None), ("difference", Reuse())):
        pipe = Pipeline(Video())
        anatomy = synccache.Anatomy("video", tuple(pipe.transformer.blocks), sites=(0, 2))
        chosen = Method(Listed(frozenset({0, 5})), WholeStack(absorb=False), Reuse(), guidance=guidance)
        with cached(pipe, chosen, anatomy=anatomy) as handle:
            pipe()
            held[name] = handle.trace.bytes_peak
    tokens, latent = 2 * 4 * 4 * 8 * 4, 4 * 2 * 4 * 4 * 4  # a residual of 32 tokens of 8 floats; one output
    assert held == {"regions": 2 * tokens, "difference": tokens + 2 * latent}  # the deciding branch's output, too


def test_branches_that_decide_for_themselves_can_not_be_told_from_one_another():
    with pytest.raises(InputError, match="with branches='separate' each decides for itself"):
        synccache.apply(Pipeline(Video()), "uncond-reuse", branches="separate")


@pytest.mark.parametrize("how", [{"guidance": 1.0}, {"guidance": 2.0, "batched": True}])
def test_where_there_is_no_other_branch_to_fill_in_it_says_so(how):
    pipe = Pipeline(Video(), batched=how.pop("batched", False))
    with cached(pipe, "uncond-reuse") as handle, pytest.warns(Notice, match="no step has called the model"):
        pipe(**how)
    assert handle.trace.skipped() == 0


@pytest.mark.parametrize("batched", [False, True])
def test_without_a_second_call_it_changes_nothing(batched):
    videos = []
    for guidance in (None, Reuse()):
        pipe = Pipeline(Video(), batched=batched)
        anatomy = synccache.Anatomy("video", tuple(pipe.transformer.blocks), sites=(0, 2))
        chosen = Method(Listed(frozenset({0, 4, 8})), WholeStack(absorb=False), Reuse(), guidance=guidance)
        with cached(pipe, chosen, anatomy=anatomy):
            videos.append(pipe(guidance=2.0 if batched else 1.0))
    assert torch.equal(*videos)


def test_never_skipping_leaves_the_model_untouched():
    pipe = Pipeline(Video())
    plain = pipe()
    with cached(pipe, method(gate=Never())):
        assert torch.equal(pipe(), plain)
