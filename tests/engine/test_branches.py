"""Guidance branches: told apart by name, conditioning, latent, plain arguments, order; and decided for."""

import pytest
import torch
from calls import EVERY_3, Echo, X, cached, call, decisions, echo, listed, picture, prompt, seen

import synccache
from synccache import Method
from synccache.forecasters import Reuse
from synccache.gates import Interval
from synccache.scopes import Segments
from synccache.testing import AddModel, Pipeline, Video, WanModel_S2V, s2v_inputs

TIMES = (1000, 900, 800, 700)


def told_apart(passes, model=None, every=None):
    """Branch by step of the trace of ``Echo``, called at each step with each of ``passes``: (number, arguments).

    All steps but the first are filled in. Whatever a pass was called with at the first step has to come back.
    """
    model = Echo() if model is None else model
    with cached(model, listed(0)) as handle:
        x, found = picture(1, number=0), []
        for step, t in enumerate(TIMES):
            for number, arguments in every(step) if every else passes:
                found.append(echo(model, t, x, **arguments) == number)
        assert all(found), found
        return [[r.branch for r in handle.trace if r.step == step] for step in range(len(TIMES))]


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_guidance_branches_are_kept_apart(batched, batch):
    """In two calls or in one batch, each branch goes on from its own residual: the videos agree."""
    every_other, videos = Method(Interval(2), Segments(), Reuse()), []
    for one_call in (batched, not batched):
        pipe = Pipeline(Video(), batched=one_call)
        anatomy = synccache.Anatomy("video", tuple(pipe.transformer.blocks), sites=(0, 2))
        with cached(pipe, every_other, anatomy=anatomy) as handle:
            videos.append(pipe(shape=(batch, 4, 2, 4, 4)))
            records = list(handle.trace)
        assert len(records) == (20 if one_call else 40)
        assert {r.branch for r in records} == ({0} if one_call else {0, 1})
        assert [r.decision for r in records if r.branch == 0] == ["computed", "skipped"] * 10
    torch.testing.assert_close(*videos, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("anew", [False, True])
def test_conditioning_tells_whatever_the_order_of_the_calls(count, anew):
    """By identity, or by equal values in new tensors."""
    kept = [prompt(number) for number in range(1, count + 1)]

    def every(step):
        numbers = list(range(1, count + 1))
        for number in numbers[step % count :] + numbers[: step % count]:
            yield number, {"prompt": prompt(number) if anew else kept[number - 1]}

    found = told_apart(None, every=every)
    assert [sorted(branches) for branches in found] == [list(range(count))] * 4


def test_prompts_of_another_length_and_dtype_are_told_apart_too():
    short, long, half = prompt(1), torch.ones(1, 9, 2), prompt(1).double()
    passes = [(1, {"prompt": p}) for p in (short, long, half)]
    assert told_apart(passes) == told_apart(None, every=lambda _: passes) == [[0, 1, 2]] * 4


def test_a_flag_tells_passes_of_the_same_conditioning_apart():
    """Perturbed attention, skipped layers: the conditional pass once more."""
    text = prompt(1)
    both = [(1, {"prompt": text}), (10, {"prompt": text, "flag": True})]
    assert told_apart(both) == [[0, 1]] * 4
    assert told_apart(None, every=lambda step: both if step < 2 else both[::-1]) == [[0, 1]] * 2 + [[1, 0]] * 2


class Perturbed(Echo):
    """Knows by what was set on it which pass a call is."""

    shift = 0.0

    def forward(self, hidden_states, timestep, prompt=None):
        return super().forward(hidden_states, timestep, prompt + self.shift)


def test_where_nothing_tells_the_order_of_the_calls_does():
    model, text, found = Perturbed(), prompt(1), []
    with cached(model, listed(0)) as handle:
        for t in TIMES:
            for model.shift in (0.0, 4.0, 2.0):
                found.append(echo(model, t, picture(1), text))
    assert found == [1, 5, 3] * 4 and [r.branch for r in handle.trace] == [0, 1, 2] * 4


def test_a_pass_that_begins_later_takes_no_others_place():
    """The conditional one once more, perturbed, while the unconditional one is still to come."""
    model, cond, uncond = Perturbed(), prompt(1), prompt(2)
    two, three = ((cond, 0.0), (uncond, 0.0)), ((cond, 0.0), (cond, 4.0), (uncond, 0.0))
    with cached(model, listed(0)) as handle:
        for t, passes in zip(TIMES, (two, two, three, three), strict=True):
            for text, model.shift in passes:
                assert echo(model, t, picture(1), text) == float(text.mean()) + model.shift
        assert [r.branch for r in handle.trace] == [0, 1] * 2 + [0, 2, 1] * 2
        assert decisions(handle) == "##" + ".." + ".#." + "..."


class ToVideo(Echo):
    """Takes reference channels behind the latent's own, and adds their mean."""

    def forward(self, hidden_states, timestep, prompt=None):
        latent, reference = hidden_states.chunk(2, dim=1)
        return super().forward(latent, timestep, None if prompt is None else prompt + reference.mean())


@pytest.mark.parametrize("text", [None, prompt(0)])
def test_a_latent_with_zeroed_reference_channels_is_another_pass_and_no_evaluation(text):
    model, reference = ToVideo(), torch.full((1, 64, 3), 4.0)
    with cached(model, listed(0)) as handle, torch.no_grad():
        for step, t in enumerate(TIMES):
            latent = picture(1) * 0.9**step
            for behind in (reference, torch.zeros_like(reference))[:: 1 if step < 2 else -1]:
                both = torch.cat([latent, behind], dim=1)
                out = model(both, torch.tensor([float(t)]), text) - latent
                assert float(out[0, -1, 0]) / 7 == (0 if text is None else float(behind.mean()))
        assert seen(handle, "step", "evaluation") == [(step, 0) for step in range(4) for _ in range(2)]
        assert decisions(handle) == "##......" and {r.branch for r in handle.trace} == {0, 1}


@pytest.mark.parametrize("anew", [False, True])
def test_the_number_of_passes_may_change_during_a_run(anew):
    """Guidance that ends early, a third pass that comes later; the unconditional one first."""
    model, kept = Echo(), [prompt(number) for number in (2, 1, 3)]
    plan = [(2, 1), (2, 1), (1,), (1,), (2, 1, 3), (2, 1, 3)]
    with cached(model, listed(0)) as handle:
        for step, numbers in enumerate(plan):
            for number in numbers:
                text = prompt(number) if anew else kept[(2, 1, 3).index(number)]
                assert echo(model, 1000 - 100 * step, picture(1), text) == number
        found = [[r.branch for r in handle.trace if r.step == step] for step in range(6)]
        assert found == [[0, 1], [0, 1], [1], [1], [0, 1, 2], [0, 1, 2]]
        assert decisions(handle) == "##" + ".." + "." + "." + "..#" + "..."


def test_a_branch_that_was_away_is_computed_when_it_comes_back():
    """Guidance intervals: what the branch has stored is older than the last computed step."""
    model = AddModel()
    with cached(model, listed(0, 2)):
        call(model, 1000, 1), call(model, 1000, 2)
        call(model, 900, 1), call(model, 900, 2)
        call(model, 800, 1)  # computed without the second branch
        assert [call(model, 700, 1), call(model, 700, 7)] == [26, 62]


def test_one_decision_serves_all_branches_and_the_first_decides():
    pipe = Pipeline(Video())
    with cached(pipe, "synccache", threshold=0.3) as handle:
        pipe()
        by_step = {}
        for r in handle.trace:
            by_step.setdefault(r.step, []).append(r)
        assert {tuple(r.decides for r in rs) for rs in by_step.values()} == {(True, False)}
        assert all(a.decision == b.decision for a, b in by_step.values())
        assert "skipped" in handle.trace.decisions()
        assert {r.error for r in handle.trace if not r.decides} == {None}


def test_separate_decisions():
    pipe, held = Pipeline(Video()), {}
    for branches in ("shared", "separate"):
        with cached(pipe, "synccache", threshold=0.3, branches=branches) as handle:
            pipe()
            held[branches] = handle.trace.probe_bytes_peak
    assert all(r.decides for r in handle.trace)
    assert all(r.error is not None for r in handle.trace if r.step > 1)
    assert held["separate"] == 2 * held["shared"]  # each looks back at a probe of its own
    assert handle.trace.computed() + handle.trace.skipped() == len({r.step for r in handle.trace})


def test_a_changed_number_of_samples_is_the_branchs_own():
    model = AddModel()
    with cached(model, listed(0)) as handle:
        call(model, 1000, 1), call(model, 1000, 2, X.repeat(2, 1, 1))
        assert [call(model, 900, 1), call(model, 900, 2, X.repeat(2, 1, 1))] == [26, 32]
        assert decisions(handle) == "##.."


def test_s2v_clips_of_another_length_and_two_sequential_branches():
    model = WanModel_S2V().eval()
    with torch.no_grad(), synccache.cached(model, EVERY_3) as handle:
        for clip in range(3):
            given = s2v_inputs(seed=clip, motion=clip > 0)
            silent = torch.zeros_like(given.audio_input)
            for t in torch.linspace(1000, 100, 12).tolist():
                for audio in (given.audio_input, silent):
                    more = (given.context, None, audio, given.ref_latents, given.motion_latents)
                    model(given.x, torch.tensor([t]), *more)
        assert len(handle.trace.runs) == 3
        for run in range(3):
            assert handle.trace.decisions(run) == ["computed", "skipped", "skipped"] * 4
            assert len(handle.trace.of_run(run)) == 24
