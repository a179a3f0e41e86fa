"""When what is stored is let go: a run's last step, a request's end, an exception, an interrupted pipeline, remove."""

import weakref

import pytest
import torch
from calls import Echo, X, cached, call, decisions, echo, listed, output, picture, prompt, toy

import synccache
from synccache import Method
from synccache.forecasters import Lagrange, Reuse
from synccache.gates import Listed, Probe, Threshold
from synccache.scopes import Modules, WholeModel, WholeStack
from synccache.testing import AddModel, Pipeline, Video

STACK, SIZE = WholeStack(absorb=False), 2 * 3 * 4
METHODS = {
    "regions": Method(Listed(frozenset({0, 2})), STACK, Lagrange(1)),
    "watched": Method(Threshold(0.3, Probe()), STACK, Reuse()),
    "guidance": Method(Listed(frozenset({0, 2})), STACK, Reuse(), guidance=Reuse()),
    "model": Method(Listed(frozenset({0, 2})), WholeModel(residual=True), Reuse()),
    "modules": Method(Listed(frozenset({0, 2})), Modules(), Reuse()),
}


def pipeline():
    pipe = Pipeline(Video(sites=()))
    return pipe, synccache.Anatomy("video", tuple(pipe.transformer.blocks), sites=())


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.filterwarnings("ignore:.*no step has called the model for one")
def test_all_is_freed_when_the_last_step_is_done(name, guidance):
    """So before the video is decoded; and the next run is as good as the first."""
    pipe, anatomy = pipeline()
    held, videos = [], []
    with cached(pipe, METHODS[name], anatomy=anatomy) as handle:
        for _ in range(2):
            videos.append(pipe(guidance=guidance, on_step=lambda step: held.append(handle.bytes)))
    assert [size > 0 for size in held] == ([True] * 19 + [False]) * 2
    assert torch.equal(*videos) and "skipped" in handle.trace.decisions(1)


def test_of_several_passes_the_last_one_frees():
    """As many as at the step before, be it one more than at first, or one less."""
    for plan, freed_at in (("12,12,12", 6), ("1,1,12", 3), ("12,1,1", 4), ("123,123,123", 9)):
        model, texts, sizes = Echo(), [prompt(n) for n in range(4)], []
        with cached(model, listed(0), steps=12) as handle:
            for step, numbers in zip((0, 1, 11), plan.split(","), strict=True):
                for number in map(int, numbers):
                    with handle.at(step=step):
                        echo(model, 7, picture(1), texts[number])
                    sizes.append(handle.bytes)
        assert sizes.index(0) + 1 == freed_at, plan


def test_an_unknown_length_frees_nothing_and_a_known_one_counts_from_the_start_of_the_run():
    model = AddModel()
    for length, freed in ((None, False), (12, True), (13, False)):
        with cached(model, listed(0), steps=length) as handle:
            for step in range(12):
                call(model, 1000 - step, 1)
            assert (handle.bytes == 0) is freed


def test_the_end_of_a_request_frees_it_also_where_it_breaks_off():
    model = AddModel()
    with cached(model, listed(0)) as handle:
        call(model, 1000, 1)
        with handle.request("a"):
            call(model, 1000, 1)
            with handle.at(window=1):
                call(model, 1000, 1)
            assert handle.bytes == 3 * SIZE
        assert handle.bytes == SIZE
        with pytest.raises(KeyboardInterrupt), handle.request("a"):
            call(model, 1000, 1)
            raise KeyboardInterrupt
        assert handle.bytes == SIZE


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_call_that_breaks_off_takes_its_run_with_it_and_no_other(error):
    def fail(*_):
        raise error

    model = AddModel()
    with cached(model, listed(0)) as handle, handle.request("other"):
        call(model, 1000, 1)
        for window in (0, 1):
            with handle.at(request="mine", window=window):
                call(model, 1000, 3.5)
        assert handle.bytes == 3 * SIZE
        hook = model.register_forward_hook(fail)
        with pytest.raises(error), handle.at(request="mine", window=0):
            call(model, 900, 4)
        hook.remove()
        assert handle.bytes == SIZE and call(model, 900, 9) == 26
        with handle.at(request="mine", window=1):
            assert call(model, 900, 4) == 44


def test_an_error_in_the_middle_of_a_call_leaves_no_tensor_of_it():
    for where in ("a block", "the model"):
        model, kept = AddModel(), []
        model.blocks[1].register_forward_hook(lambda m, args, out, kept=kept: kept.append(weakref.ref(out)))
        broken = model.blocks[2] if where == "a block" else model
        with cached(model, listed(0)) as handle:
            broken.register_forward_hook(lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                call(model, 1000, 1)
            assert kept[0]() is None and handle.bytes == 0


def test_an_interrupted_pipeline_frees_when_its_conditioning_goes():
    """It stops calling the model, and nobody tells; but it lets go of its prompt."""
    model, negative = Echo(), prompt(0)
    with cached(model, Method(Threshold(1e9, Probe()), STACK, Reuse()), steps=20) as handle:

        def interrupted():
            text = prompt(1)
            for step in range(4):
                echo(model, 1000 - step, picture(1), text)
                echo(model, 1000 - step, picture(1), negative)
            assert handle.bytes > 0

        interrupted()
        assert handle.bytes == 0
        assert echo(model, 990, picture(1), prompt(3)) == 3  # what comes then is computed


def test_conditioning_made_anew_at_each_step_frees_nothing_when_it_goes():
    model = Echo()
    with cached(model, listed(0), steps=20) as handle:
        for step in range(4):
            echo(model, 1000 - step, picture(1), prompt(1))
            assert handle.bytes > 0
    assert decisions(handle) == "#..."


def test_removing_frees_all():
    model = AddModel()
    handle = synccache.apply(model, listed(0), anatomy=toy(model))
    for request in (None, "a"):
        for window in (None, 1):
            with handle.at(request=request, window=window):
                call(model, 1000, 1)
    assert handle.bytes == 4 * SIZE
    handle.remove()
    assert handle.bytes == 0 and len(handle.trace) == 4


class Leaving(AddModel):
    """Doesn't run all of its blocks."""

    def forward(self, hidden_states, timestep, level):
        return self.blocks[1](self.blocks[0](hidden_states, level), level)


@pytest.mark.parametrize("model", [AddModel(), Leaving()])
def test_no_tensor_of_a_call_stays_alive_after_the_run_but_what_is_counted(model):
    with cached(model, listed(0), steps=12) as handle:
        for step, at in enumerate((0, 1, 11)):
            x = X.clone() - step
            with handle.at(step=at), torch.no_grad():
                out = model(x, torch.tensor([1000.0 - at]), torch.tensor(1.0))
            gone = weakref.ref(out)
            del out
            assert gone() is None
        latent = weakref.ref(x)
        del x
        assert latent() is None


def test_branches_that_are_called_no_more_are_let_go():
    """What they have stored is too old to be used once the others have computed two more steps."""
    model = AddModel()
    with cached(model, listed(*range(20))) as handle:
        for step in range(12):
            with handle.at(branch=f"prompt of step {step}"):
                call(model, 1000 - step, 1)
            assert handle.bytes <= 2 * SIZE
    with cached(model, listed(0, 2, 4)) as handle:
        for step in range(6):  # guidance that ends after the second step
            for level in (1, 2)[: 2 if step < 2 else 1]:
                assert call(model, 1000 - step, level) == 20 + 6 * level
            assert handle.bytes == (2 if step < 4 else 1) * SIZE
        assert decisions(handle) == "##..#.#."


@pytest.mark.xfail(strict=True, reason="a window that isn't called at the last step is kept until its prompt goes")
def test_windows_that_are_not_called_at_the_last_step_are_freed_with_it():
    model = AddModel()
    with cached(model, listed(0), steps=12) as handle:
        for step in range(12):
            for start in (0, 10):
                with handle.at(step=step, window=start + step % 3):
                    output(model, 7, 1)
        assert handle.bytes == 0
