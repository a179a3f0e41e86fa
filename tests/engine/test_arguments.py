"""What a call is given beside the latent: arguments that are missing or forced, leading tokens, masks."""

import threading

import pytest
import torch
from calls import X, cached, call, listed

import synccache
from synccache import Method
from synccache.forecasters import Reuse
from synccache.scopes import WholeStack
from synccache.testing import AddModel, Look, Watching


@pytest.mark.parametrize(
    ("name", "given", "text"),
    [
        (
            "timestep",
            "when",
            r"AddModel\(hidden_states, timestep, level\) was called without 'when', .* as the timestep",
        ),
        ("latent", "x", r"was called without 'x', .* as the latent\. Pass anatomy=Anatomy\(\.\.\., latent=\.\.\.\)"),
        ("latent", "level", r"was called with no tensor as 'level'"),
        ("timestep", "hidden_states", r"with more than a number for each token as 'hidden_states'"),
    ],
)
def test_a_wrong_argument_is_refused_by_name_at_the_first_call(name, given, text):
    model = AddModel()
    anatomy = synccache.Anatomy("wrong", tuple(model.blocks), **{name: given})
    with cached(model, listed(0), anatomy=anatomy), pytest.raises(synccache.InputError, match=text):
        model(X, torch.tensor([900.0]), 4.0)
    assert float(model(X, torch.tensor([900.0]), 4.0).detach()[0, 0, 0]) == 44


@pytest.mark.parametrize("time", [1000, 1000.0, [1000.0, 0.0], torch.tensor(1000), torch.tensor([[1000.0], [0.0]])])
def test_timesteps_come_as_numbers_lists_and_tensors(time):
    model = AddModel()
    with torch.no_grad(), cached(model, listed(0)) as handle:
        model(X, time, torch.tensor(4.0))
        assert handle.trace.records[0].timestep == 1000


def test_what_the_anatomy_forces_goes_before_what_the_caller_says():
    class OwnCache(AddModel):
        def forward(self, hidden_states, timestep, level, own=False):
            return hidden_states if own else super().forward(hidden_states, timestep, level)

    def run(*given, **named):
        return float(model(X.clone(), torch.tensor([900.0]), torch.tensor(4.0), *given, **named).detach().flatten()[0])

    model = OwnCache()
    anatomy = synccache.Anatomy("own", tuple(model.blocks), forced={"own": False})
    with torch.no_grad(), cached(model, listed(0), anatomy=anatomy) as handle:
        assert run() == 44 and run(own=False) == 44
        with pytest.warns(synccache.Notice, match="own=True; while synccache is attached it gets False") as seen:
            assert run(own=True) == run(own=True) == 44
        assert len(seen) == 1
        with pytest.raises(synccache.Conflict, match="own=True by position"):
            run(True)
        with handle.pause():
            assert run(own=True) == 20
    assert run(own=True) == 20
    with cached(model, listed(0), anatomy=anatomy), pytest.warns(synccache.Notice) as seen:
        assert run(own=True) == 44  # autograd records, so nothing is cached, by anybody
    assert len(seen) == 2


def test_tokens_ahead_of_the_video_are_counted_anew_for_each_call():
    model = AddModel()
    anatomy = synccache.Anatomy(
        "toy", tuple(model.blocks), grid=lambda _: (1, 1, 1), ahead=lambda bound: bound["hidden_states"].shape[1] - 1
    )
    probes = []
    look = Look(lambda found: probes.append(found.tap("probe").now.flatten().tolist()))
    method = Method(Watching(frozenset({0}), look), WholeStack(absorb=False), Reuse())
    with cached(model, method, anatomy=anatomy):
        for tokens in (2, 5):
            call(model, 1000, 4, torch.arange(3.0 * tokens).reshape(1, tokens, 3))
    assert probes == [[3.0 * tokens - 3 + i + 4 for i in range(3)] for tokens in (2, 5)]


def test_the_mask_of_the_call_is_for_its_own_thread_and_gives_way_to_the_users():
    model, seen = AddModel(), {}
    together = threading.Barrier(2, timeout=60)

    def grid(_):
        together.wait()  # the other thread's call has begun too
        return 1, 1, 2

    def given(bound):
        return bound["level"] / 10 * torch.ones(1, 1, 1, 2)

    def show(found):
        seen.setdefault(threading.current_thread().name, []).append(found.mask.tolist())

    anatomy = synccache.Anatomy("toy", tuple(model.blocks), grid=grid, mask=given)
    method = Method(Watching(frozenset({0}), Look(show)), WholeStack(absorb=False), Reuse())
    with cached(model, method, anatomy=anatomy) as handle:

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
    from synccache.core.mask import TokenMask
    from synccache.core.notices import Notices

    mask, notices = TokenMask(torch.eye(2)), Notices()
    assert mask.on(torch.zeros(1, 4, 3), (1, 2, 2), notices).tolist() == [[1, 0, 0, 1]]
    with pytest.warns(synccache.Notice, match="it has 4 tokens, and 3 video tokens are here"):
        assert mask.on(torch.zeros(1, 3, 3), (1, 2, 2), notices) is None
    assert mask.on(torch.zeros(1, 3, 3), (1, 2, 2), notices) is None
