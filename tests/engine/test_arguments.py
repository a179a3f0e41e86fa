"""What a call is given beside the latent: steady arguments, windows, leading tokens, masks."""

import threading

import pytest
import torch
from calls import X, call, listed

import synccache
from synccache import Method
from synccache.forecasters import Reuse
from synccache.scopes import WholeStack
from synccache.testing import AddModel, Watching


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
    from synccache.engine.notices import Notices
    from synccache.engine.store.mask import TokenMask

    mask, notices = TokenMask(torch.eye(2)), Notices()
    assert mask.on(torch.zeros(1, 4, 3), (1, 2, 2), notices).tolist() == [[1, 0, 0, 1]]
    with pytest.warns(synccache.Notice, match="it has 4 tokens, and 3 video tokens are here"):
        assert mask.on(torch.zeros(1, 3, 3), (1, 2, 2), notices) is None
    assert mask.on(torch.zeros(1, 3, 3), (1, 2, 2), notices) is None
