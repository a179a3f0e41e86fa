"""Runs, steps, branches, evaluations, requests, experts: never a stale tensor, never a leak."""

import threading

import pytest
import torch
from toys import AddModel, Pipeline, Video, WanModel_S2V, Watching, s2v_inputs

import synccache
from synccache import Method
from synccache.forecasters import Lagrange, Reuse
from synccache.gates import Interval, Listed, MaxGap, Never
from synccache.scopes import Segments, WholeStack

X = torch.full((1, 2, 3), 20.0)
EVERY_3 = Method(Interval(3), Segments(), Reuse())


def call(model, timestep, level, x=X):
    with torch.no_grad():
        return float(model(x.clone(), torch.tensor([float(timestep)]), torch.tensor(float(level))).flatten()[0])


def listed(*steps):
    return Method(Listed(frozenset(steps)), WholeStack(absorb=False), Reuse())


def test_a_timestep_that_goes_back_up_is_a_new_run():
    model = AddModel()
    with synccache.cached(model, listed(0)) as handle:
        assert [call(model, 1000, 3.5), call(model, 500, 4)] == [41, 41]
        assert [call(model, 900, 4), call(model, 500, 9)] == [44, 44]
        assert handle.trace.runs == [(None, 0), (None, 1)]
        assert [r.step for r in handle.trace] == [0, 1, 0, 1]
        assert handle.trace.computed(0) == handle.trace.computed(1) == 1


def test_two_runs_in_a_row_give_what_they_give_alone():
    pipe = Pipeline(Video())
    anatomy = synccache.Anatomy("video", tuple(pipe.transformer.blocks), sites=(0, 2))
    with synccache.cached(pipe, EVERY_3, anatomy=anatomy) as handle:
        alone = pipe(seed=1)
        assert handle.trace.decisions() == (["computed", "skipped", "skipped"] * 7)[:20]
    with synccache.cached(pipe, EVERY_3, anatomy=anatomy):
        pipe(seed=0)
        assert torch.equal(pipe(seed=1), alone)


@pytest.mark.parametrize("shape", [(1, 4, 3, 4, 4), (1, 4, 2, 4, 6)])
def test_another_shape_is_a_new_run(shape):
    model = Video()
    with torch.no_grad(), synccache.cached(model, listed(0)) as handle:
        model(torch.ones(1, 4, 2, 4, 4), torch.tensor([1000.0]))
        model(torch.ones(shape), torch.tensor([900.0]))
        assert handle.trace.decisions() == ["computed"] and len(handle.trace.runs) == 2


def test_another_batch_size_drops_anchors_but_not_the_run():
    model = AddModel()
    with synccache.cached(model, listed(0)) as handle:
        call(model, 1000, 3.5)
        assert call(model, 900, 4, X.repeat(2, 1, 1)) == 44
        assert call(model, 800, 9, X.repeat(2, 1, 1)) == 44
        assert [(r.run, r.step, r.reason) for r in handle.trace][1:] == [(0, 1, "no anchors"), (0, 2, "listed")]


def test_a_pipeline_whose_scheduler_was_set_anew_is_a_new_run_even_at_a_lower_timestep():
    pipe = Pipeline(AddModel())
    with synccache.cached(pipe, listed(0)) as handle:
        pipe.scheduler.set_timesteps(20)
        call(pipe.transformer, 1000, 3.5)
        pipe.scheduler.set_timesteps(20)
        assert call(pipe.transformer, 900, 4) == 44
        assert len(handle.trace.runs) == 2


def test_same_run_keeps_a_rising_timestep_in_the_run():
    model = AddModel()
    with synccache.cached(model, listed(0)) as handle, handle.same_run():
        call(model, 1000, 3.5)
        call(model, 900, 4)
        assert call(model, 950, 4) == 41


def test_rising_timesteps_where_the_anatomy_says_so():
    model = AddModel()
    anatomy = synccache.Anatomy("flow", tuple(model.blocks), rising=True)
    with synccache.cached(model, listed(0), anatomy=anatomy):
        assert [call(model, t, level) for t, level in ((0.0, 3.5), (0.1, 4), (0.2, 4))] == [41, 41, 41]
        assert call(model, 0.0, 4) == 44


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


def test_heun_evaluates_a_step_twice():
    model = AddModel()
    with synccache.cached(model, listed(0)) as handle:
        call(model, 1000, 1)
        call(model, 1000, 1, X + 1)
        call(model, 900, 1, X + 2)
        call(model, 900, 1, X + 3)
        assert [(r.step, r.evaluation, r.branch) for r in handle.trace] == [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0)]
        assert handle.trace.decisions() == ["computed", "computed", "skipped", "skipped"]


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


def test_two_experts_share_the_step_index_and_nothing_else():
    pipe = Pipeline(Video(seed=0), Video(seed=1))
    with synccache.cached(pipe, Method(MaxGap(Interval(4), 4), Segments(), Reuse())) as handle:
        pipe(steps=20)
        assert len(handle.trace.runs) == 1 and len(handle.trace.steps()) == 20
        assert [r.expert for r in handle.trace.steps()] == [0] * 10 + [1] * 10
        switch = handle.trace.steps()[10]
        assert switch.decision == "computed"
        assert switch.reason == "no anchors"
        assert {k[0] for k in handle.engine.session().histories} == {1}  # the first one's went when it was done
        assert len({r.bytes for r in handle.trace if r.step in (9, 19)}) == 1
    assert type(pipe.transformer_2) is Video


def test_reset_and_pause():
    model = AddModel()
    with synccache.cached(model, listed(0)) as handle:
        call(model, 1000, 3.5)
        handle.reset()
        assert handle.bytes == 0 and len(handle.trace) == 0
        assert call(model, 900, 4) == 44
        with handle.pause():
            assert call(model, 800, 5) == 50
        assert len(handle.trace) == 1
        assert call(model, 700, 4) == 44


def test_run_length_from_the_scheduler_or_the_setting():
    pipe = Pipeline(Video())
    with synccache.cached(pipe, "interval", interval=20, warmup=0.2, last=2) as handle:
        pipe(steps=20)
        assert [i for i, d in enumerate(handle.trace.decisions()) if d == "computed"] == [0, 1, 2, 3, 18, 19]
    with synccache.cached(pipe.transformer, "interval", interval=20, warmup=3, last=2) as handle:
        pipe(steps=20)
        assert [i for i, d in enumerate(handle.trace.decisions()) if d == "computed"] == [0, 1, 2]
    with synccache.cached(pipe.transformer, "interval", interval=20, warmup=3, last=2, steps=20) as handle:
        pipe(steps=20)
        assert [i for i, d in enumerate(handle.trace.decisions()) if d == "computed"] == [0, 1, 2, 18, 19]


@pytest.mark.parametrize(
    ("timesteps", "first", "length"),
    [
        ([900.0, 600.0, 300.0], 900.0, 3), ([900.0, 600.0, 300.0], 600.0, 2), ([900.0, 600.0, 300.0], 0.9, 3),
        ([900.0, 600.0, 600.0, 300.0, 300.0], 900.0, 3), ([900.0, 600.0, 300.0], 0.1, 3), (None, 900.0, None),
        (torch.tensor([999, 500]), 999.0, 2), ([900.0, 600.0], 77.7, 2),
    ],
)  # fmt: skip
def test_run_length(timesteps, first, length):
    from synccache.engine.schedule import run_length

    assert run_length(timesteps, first) == length


def test_few_steps_are_noticed_once():
    pipe = Pipeline(Video())
    with synccache.cached(pipe, "interval"), pytest.warns(synccache.Notice, match="8 or fewer") as seen:
        pipe(steps=8)
        pipe(steps=4)
    assert len(seen) == 1
    with synccache.cached(pipe, "none"):
        pipe(steps=4)


def test_timestep_and_error_come_over_together(monkeypatch):
    """On an accelerator the timestep stays there until the error is read; here by pretending that the CPU is one."""
    from synccache.engine.call import Call

    pipe, read, arrive, arrived = Pipeline(Video()), Call.read_timestep, Call.arrive, []

    def two_runs():
        with synccache.cached(pipe, "synccache", threshold=0.3) as handle:
            videos = [pipe(seed=seed) for seed in (0, 1)]
            return videos, [(r.run, r.step, r.branch, r.decision, r.timestep, r.error) for r in handle.trace]

    def lazily(self, value):
        monkeypatch.setattr(Call, "arrive", lambda *_: None)
        read(self, value)
        monkeypatch.setattr(Call, "arrive", lambda self, t: (arrived.append(t), arrive(self, t)))
        assert (self.timestep is None) == (self.pending is not None)

    expected = two_runs()
    monkeypatch.setattr(Call, "read_timestep", lazily)
    found = two_runs()
    assert all(torch.equal(a, b) for a, b in zip(found[0], expected[0], strict=True)) and found[1] == expected[1]
    assert len(arrived) == 40  # once a step: the second branch passes the same object


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


def test_a_never_skipping_gate_with_linear_anchors_stays_bounded():
    pipe = Pipeline(Video())
    with synccache.cached(pipe, Method(Never(), Segments(), Lagrange(1))) as handle:
        pipe()
        assert {len(h.anchors) for h in handle.engine.session().histories.values()} == {2}


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


def steps(model, *calls, **anatomy):
    """(output, decision, reason) of each call (timestep, level, and what its input is more than 20)."""
    anatomy = synccache.Anatomy("toy", tuple(model.blocks), **anatomy)
    with synccache.cached(model, listed(0), anatomy=anatomy) as handle:
        outs = [call(model, t, level, X + sum(more)) for t, level, *more in calls]
        return [(out, r.decision, r.reason) for out, r in zip(outs, handle.trace, strict=True)]


def test_a_steady_argument_that_changes_has_its_step_computed():
    calls = (1000, 3.5), (900, 3.5), (800, 4), (700, 4)
    assert [out for out, *_ in steps(AddModel(), *calls)] == [41, 41, 41, 41]
    found = steps(AddModel(), *calls, steady=("level",))
    assert [out for out, *_ in found] == [41, 41, 44, 44]
    assert [f[1:] for f in found[1:]] == [
        ("skipped", "listed"),
        ("computed", "new conditioning"),
        ("skipped", "listed"),
    ]


def test_steady_arguments_are_those_of_each_branch():
    calls = (1000, 1), (1000, 2), (900, 1), (900, 2), (800, 1), (800, 3), (700, 1), (700, 3)
    found = steps(AddModel(), *calls, steady=("level",))
    assert [out for out, *_ in found] == [26, 32, 26, 32, 26, 38, 26, 38]
    assert [d for _, d, _ in found] == ["computed"] * 2 + ["skipped"] * 3 + ["computed"] + ["skipped"] * 2


def test_an_argument_that_nobody_gives_is_steady():
    assert [d for _, d, _ in steps(AddModel(), (1000, 1), (900, 1), steady=("text",))] == ["computed", "skipped"]


def test_windows_of_a_longer_video_are_computed_until_the_next_run():
    calls = (1000, 1), (1000, 2, 1), (900, 3, 1), (900, 4), (800, 5), (1000, 1), (900, 9)
    with pytest.warns(synccache.Notice, match="windows of a longer video") as seen:
        found = steps(AddModel(), *calls, windows=True)
    assert [out for out, *_ in found] == [26, 33, 39, 44, 50, 26, 26]
    assert [r for *_, r in found][1:5] == ["window"] * 4 and found[-1][1] == "skipped"
    assert len(seen) == 1
    assert [out for out, *_ in steps(AddModel(), *calls)][2:4] != [39, 44]  # as guidance branches they'd be mixed up


def test_what_the_anatomy_forces_goes_before_what_the_caller_says():
    class OwnCache(AddModel):
        def forward(self, hidden_states, timestep, level, own=False):
            return hidden_states if own else super().forward(hidden_states, timestep, level)

    def run(*given, **named):
        return float(model(X.clone(), torch.tensor([900.0]), torch.tensor(4.0), *given, **named).detach().flatten()[0])

    model = OwnCache()
    anatomy = synccache.Anatomy("own", tuple(model.blocks), forced={"own": False})
    with torch.no_grad(), synccache.cached(model, listed(0), anatomy=anatomy) as handle:
        assert run() == 44 and run(own=False) == 44
        with pytest.warns(synccache.Notice, match="own=True; while synccache is attached it gets False") as seen:
            assert run(own=True) == run(own=True) == 44
        assert len(seen) == 1
        with pytest.raises(synccache.Conflict, match="own=True by position"):
            run(True)
        with handle.pause():
            assert run(own=True) == 20
    assert run(own=True) == 20
    with synccache.cached(model, listed(0), anatomy=anatomy), pytest.warns(synccache.Notice) as seen:
        assert run(own=True) == 44  # autograd records, so nothing is cached, by anybody
    assert len(seen) == 2


def test_tokens_ahead_of_the_video_are_counted_anew_for_each_call():
    model = AddModel()
    anatomy = synccache.Anatomy(
        "toy", tuple(model.blocks), grid=lambda _: (1, 1, 1), ahead=lambda bound: bound["hidden_states"].shape[1] - 1
    )
    method = Method(Watching(frozenset({0}), probe=1), WholeStack(absorb=False), Reuse())
    with synccache.cached(model, method, anatomy=anatomy) as handle:
        for tokens in (2, 5):
            call(model, 1000, 4, torch.arange(3.0 * tokens).reshape(1, tokens, 3))
            (kept,) = handle.engine.session().kept.values()
            assert kept.before.flatten().tolist() == [3.0 * tokens - 3 + i + 4 for i in range(3)]


def test_the_mask_of_the_call_is_for_its_own_thread_and_gives_way_to_the_users():
    model, seen = AddModel(), {}
    together = threading.Barrier(2, timeout=60)

    def grid(_):
        together.wait()  # the other thread's call has begun too
        return 1, 1, 2

    def given(bound):
        return bound["level"] / 10 * torch.ones(1, 1, 1, 2)

    class Look(Watching):
        def measure(self, found):
            seen.setdefault(threading.current_thread().name, []).append(found.mask.tolist())

    anatomy = synccache.Anatomy("toy", tuple(model.blocks), grid=grid, mask=given)
    method = Method(Look(frozenset({0}), probe=1), WholeStack(absorb=False), Reuse())
    with synccache.cached(model, method, anatomy=anatomy) as handle:

        def work(level):
            with handle.request(level):
                for t in (1000, 900, 800):
                    call(model, t, level)

        for mask in (None, [[1.0, 0.0]]):
            handle.mask = mask
            threads = [threading.Thread(target=work, args=(level,), name=str(level)) for level in (2, 5)]
            [t.start() for t in threads]
            [t.join() for t in threads]
            expected = {"2": [0.2, 0.2], "5": [0.5, 0.5]} if mask is None else {"2": [1, 0], "5": [1, 0]}
            assert {name: len(masks) for name, masks in seen.items()} == {"2": 3, "5": 3}
            assert all(m == [pytest.approx(expected[name])] for name, masks in seen.items() for m in masks)
            seen.clear()


def test_a_mask_is_left_out_where_only_a_part_of_the_video_is_here():
    from synccache.engine.mask import TokenMask
    from synccache.engine.notices import Notices

    mask, notices = TokenMask(torch.eye(2)), Notices()
    assert mask.on(torch.zeros(1, 4, 3), (1, 2, 2), notices).tolist() == [[1, 0, 0, 1]]
    with pytest.warns(synccache.Notice, match="it has 4 tokens, and 3 video tokens are here"):
        assert mask.on(torch.zeros(1, 3, 3), (1, 2, 2), notices) is None
    assert mask.on(torch.zeros(1, 3, 3), (1, 2, 2), notices) is None
