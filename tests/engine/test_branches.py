"""Guidance branches, requests and threads: told apart, and decided for."""

import threading

import pytest
import torch
from calls import EVERY_3, X, call, listed

import synccache
from synccache import Method
from synccache.forecasters import Reuse
from synccache.gates import Interval
from synccache.scopes import Segments
from synccache.testing import AddModel, Pipeline, Video, WanModel_S2V, s2v_inputs


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_guidance_branches_are_kept_apart(batched, batch):
    """In two calls or in one batch, each branch goes on from its own residual: the videos agree."""
    every_other, videos = Method(Interval(2), Segments(), Reuse()), []
    for one_call in (batched, not batched):
        pipe = Pipeline(Video(), batched=one_call)
        anatomy = synccache.Anatomy("video", tuple(pipe.transformer.blocks), sites=(0, 2))
        with synccache.cached(pipe, every_other, anatomy=anatomy) as handle:
            videos.append(pipe(shape=(batch, 4, 2, 4, 4)))
            records = list(handle.trace)
        assert len(records) == (20 if one_call else 40)
        assert {r.branch for r in records} == ({0} if one_call else {0, 1})
        assert [r.decision for r in records if r.branch == 0] == ["computed", "skipped"] * 10
    torch.testing.assert_close(*videos, rtol=1e-4, atol=1e-5)


def test_branches_do_not_share_anchors():
    model = AddModel()
    with synccache.cached(model, listed(0)):
        assert [call(model, 1000, 1), call(model, 1000, 2)] == [26, 32]
        assert [call(model, 900, 1), call(model, 900, 2)] == [26, 32]
        assert [call(model, 800, 2), call(model, 800, 1)] == [32, 26]  # the conditioning tells, not the order


def test_one_decision_serves_all_branches_and_the_first_decides():
    pipe = Pipeline(Video())
    with synccache.cached(pipe, "synccache", threshold=0.3) as handle:
        pipe()
        by_step = {}
        for r in handle.trace:
            by_step.setdefault(r.step, []).append(r)
        assert {tuple(r.decides for r in rs) for rs in by_step.values()} == {(True, False)}
        assert all(a.decision == b.decision for a, b in by_step.values())
        assert "skipped" in handle.trace.decisions()
        assert {r.error for r in handle.trace if not r.decides} == {None}


def test_separate_decisions():
    pipe = Pipeline(Video())
    with synccache.cached(pipe, "synccache", threshold=0.3, branches="separate") as handle:
        pipe()
        assert all(r.decides for r in handle.trace)
        assert all(r.error is not None for r in handle.trace if r.step > 1)
        assert len(handle.engine.session().kept) == 2
        assert handle.trace.computed() + handle.trace.skipped() == len({r.step for r in handle.trace})


def test_a_branch_that_was_away_is_computed_when_it_comes_back():
    """Guidance intervals: what the branch has stored is older than the last computed step."""
    model = AddModel()
    with synccache.cached(model, listed(0, 2)):
        call(model, 1000, 1), call(model, 1000, 2)
        call(model, 900, 1), call(model, 900, 2)
        call(model, 800, 1)  # computed without the second branch
        assert [call(model, 700, 1), call(model, 700, 7)] == [26, 62]


def test_branches_are_named_by_diffusers_cache_context():
    from contextlib import contextmanager

    class Named(AddModel):
        @contextmanager
        def cache_context(self, name):
            yield

    model = Named()
    with synccache.cached(model, listed(0)) as handle:
        for t, names in ((1000, ("cond", "uncond")), (900, ("uncond", "cond"))):
            for name in names:
                with model.cache_context(name):
                    call(model, t, 1 if name == "cond" else 2)
        assert [r.branch for r in handle.trace] == ["cond", "uncond", "uncond", "cond"]


def test_branches_are_named_by_comfyui():
    class Comfy(AddModel):
        def forward(self, hidden_states, timestep, level, transformer_options):
            return super().forward(hidden_states, timestep, level)

    model = Comfy()
    with torch.no_grad(), synccache.cached(model, listed(0)) as handle:
        outs = []
        for t, order in ((1000.0, "ab"), (900.0, "ba")):
            for uuid in order:
                level = torch.tensor(float("ab".index(uuid) + 1))
                outs.append(float(model(X.clone(), torch.tensor([t]), level, {"uuids": [uuid]})[0, 0, 0]))
        assert [r.branch for r in handle.trace] == [("a",), ("b",), ("b",), ("a",)]
        assert outs == [26, 32, 32, 26]


def test_requests_are_kept_apart():
    model = AddModel()
    with synccache.cached(model, listed(0)) as handle:

        def step(request, t, level):
            with handle.request(request):
                return call(model, t, level)

        assert [step("a", 1000, 1), step("b", 800, 2), step("a", 900, 5), step("b", 700, 5)] == [26, 32, 26, 32]
        assert handle.trace.runs == [("a", 0), ("b", 0)]
        handle.forget_request("a")
        assert step("a", 850, 5) == 50 and step("b", 600, 5) == 32


def test_threads_with_requests_of_their_own():
    model, out = AddModel(), {}
    with synccache.cached(model, listed(0)) as handle:

        def work(name, level):
            with handle.request(name):
                out[name] = [call(model, t, level if t == 1000 else 0) for t in (1000, 900, 800, 700)]

        threads = [threading.Thread(target=work, args=(i, i)) for i in range(1, 5)]
        [t.start() for t in threads]
        [t.join() for t in threads]
    assert out == {i: [20 + 6 * i] * 4 for i in range(1, 5)}


def test_s2v_clips_of_another_length_and_two_sequential_branches():
    model = WanModel_S2V().eval()
    with torch.no_grad(), synccache.cached(model, EVERY_3) as handle:
        for clip in range(3):
            inputs = s2v_inputs(seed=clip, motion=clip > 0)
            silent = torch.zeros_like(inputs.audio_input)
            for t in torch.linspace(1000, 100, 12).tolist():
                for audio in (inputs.audio_input, silent):
                    model(
                        inputs.x,
                        torch.tensor([t]),
                        inputs.context,
                        None,
                        audio,
                        inputs.ref_latents,
                        inputs.motion_latents,
                    )
        assert len(handle.trace.runs) == 3
        for run in range(3):
            assert handle.trace.decisions(run) == ["computed", "skipped", "skipped"] * 4
            assert len(handle.trace.of_run(run)) == 24
