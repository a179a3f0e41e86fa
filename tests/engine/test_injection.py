"""The decisive tests: a model with Wan-S2V's structure, in-place audio between the blocks and after the last."""

import pytest
import torch

import synccache
from synccache import Anatomy, Method
from synccache.forecasters import Lagrange, Reuse
from synccache.gates import Listed, Never, Probe
from synccache.scopes import Nothing, Segments, WholeStack
from synccache.testing import UnknownS2V, WanModel_S2V, distance, s2v_inputs

FIRST = Method(Listed(frozenset({0}), probe=1), Segments(), Reuse())
MODELS = [
    pytest.param(WanModel_S2V, id="known"),
    pytest.param(UnknownS2V, id="found"),
    pytest.param(lambda: WanModel_S2V(overwrites=True), id="known, blocks overwrite their input"),
    pytest.param(lambda: UnknownS2V(overwrites=True), id="found, blocks overwrite their input"),
]
RECORDING = [torch.no_grad, torch.inference_mode]


def call(model, timestep, inputs, **changes):
    arguments = {**vars(inputs), **changes}
    x = [v.clone() for v in arguments.pop("x")]
    return torch.stack(model(x, torch.full((len(x),), float(timestep)), **arguments))


def warm(model, handle, inputs):
    """First call, and a second one where the first only served to find the sites."""
    call(model, 1000, inputs)
    call(model, 1000, inputs)
    handle.reset()
    model.injections.clear()
    for block in model.blocks:
        block.calls = 0


@pytest.mark.parametrize("recording", RECORDING)
@pytest.mark.parametrize("make", MODELS)
def test_the_same_input_twice_gives_the_same_output_with_every_injection_counted_once(make, recording):
    model, inputs = make().eval(), s2v_inputs(batch=2)
    with recording(), synccache.cached(model, FIRST) as handle:
        warm(model, handle, inputs)
        full = call(model, 500, inputs)
        assert model.injections == [0, 2, 4, 6]
        skipped = call(model, 499.999, inputs)
        assert model.injections == [0, 2, 4, 6] * 2
        assert handle.trace.decisions() == ["computed", "skipped"]
        assert [b.calls for b in model.blocks] == [2] + [1] * 6
        assert distance(skipped, full) < 1e-5


@pytest.mark.parametrize("make", MODELS)
def test_other_audio_on_a_skipped_step_is_heard(make):
    model, inputs, other = make().eval(), s2v_inputs(), s2v_inputs(seed=1).audio_input
    with torch.no_grad():
        true = call(model, 500, inputs, audio_input=other)
        stale = call(model, 500, inputs)
        with synccache.cached(model, FIRST) as handle:
            warm(model, handle, inputs)
            call(model, 500, inputs)
            followed = call(model, 499.999, inputs, audio_input=other)
            assert handle.trace.decisions() == ["computed", "skipped"]
        with synccache.cached(model, Method(FIRST.gate, WholeStack(absorb=True), Reuse())) as handle:
            warm(model, handle, inputs)
            call(model, 500, inputs)
            absorbed = call(model, 499.999, inputs, audio_input=other)
            computed = handle.trace.decisions()[-1] == "computed"
    assert distance(followed, true) < 0.2 * distance(stale, true)
    assert distance(absorbed, true) < 1e-5 if computed else distance(absorbed, true) > 2 * distance(followed, true)


@pytest.mark.parametrize("scope", [WholeStack(absorb=True), WholeStack(absorb=False), Segments(0.4), Segments(0.1)])
def test_the_same_input_twice_in_every_scope(s2v, scope):
    inputs = s2v_inputs()
    with torch.no_grad(), synccache.cached(s2v, Method(FIRST.gate, scope, Reuse())) as handle:
        full = call(s2v, 500, inputs)
        again = call(s2v, 499, inputs)
        assert handle.trace.decisions() == ["computed", "skipped"]
        if scope == WholeStack(absorb=True):
            assert distance(again, full) < 1e-2  # the timestep moved; the probe block follows it
        else:
            assert s2v.injections == [0, 2, 4, 6] * 2


def test_absorbed_means_bit_equal_to_the_stored_output(s2v):
    inputs, method = s2v_inputs(), Method(Listed(frozenset({0})), WholeStack(absorb=True), Reuse())
    with torch.no_grad(), synccache.cached(s2v, method):
        full = call(s2v, 500, inputs)
        again = call(s2v, 499, inputs)
    assert distance(again, full) < 1e-6


@pytest.mark.parametrize("gate", [Never(), Never(Probe())])
@pytest.mark.parametrize("scope", [Nothing(), Segments(), WholeStack()])
@pytest.mark.parametrize("make", MODELS)
def test_never_skipping_is_bit_equal(make, scope, gate):
    model, inputs = make().eval(), s2v_inputs(batch=2)
    with torch.no_grad():
        untouched = [call(model, t, inputs) for t in (900, 800)]
        with synccache.cached(model, Method(gate, scope, Reuse())):
            assert all(torch.equal(call(model, t, inputs), u) for t, u in zip((900, 800), untouched, strict=True))


def test_known_sites_and_found_sites_agree():
    known, found, inputs = WanModel_S2V().eval(), UnknownS2V().eval(), s2v_inputs()
    with torch.no_grad(), synccache.cached(known, FIRST) as a, synccache.cached(found, FIRST) as b:
        call(known, 900, inputs)
        call(found, 901, inputs), call(found, 900, inputs)  # the first call has shown which blocks there are
        assert a.anatomy.sites == (0, 2, 4, 6)
        assert b.anatomy.sites == (0, 2, 4)  # what follows the last block can't be seen, and needn't be
        assert a.regions == b.regions
        assert [r.members for r in a.regions] == [(1, 2), (3, 4), (5, 6)]


def test_a_plain_residual_is_the_sum_over_blocks():
    """What the anchor holds is out - in of the blocks, to rounding, whatever is injected between them."""
    model, inputs, sums = WanModel_S2V().eval(), s2v_inputs(), {}
    with torch.no_grad(), synccache.cached(model, Method(FIRST.gate, Segments(0.25), Lagrange(1))) as handle:
        stored = []
        handle.on_store = lambda shown: stored.append(shown) or True
        for index, block in enumerate(model.blocks):

            def spy(module, args, kwargs, output, index=index):
                sums[index] = output - args[0]

            block.register_forward_hook(spy, with_kwargs=True)
        call(model, 500, inputs)
    (shown,) = stored
    assert (shown.region.members, shown.stream, shown.video) == ((1, 2, 3, 4, 5, 6), "x", True)
    torch.testing.assert_close(shown.value, sum(sums[i] for i in range(1, 7)))


@pytest.mark.parametrize("recording", RECORDING)
def test_a_site_that_the_anatomy_forgot_is_noticed_and_never_absorbed(recording):
    """Declared sites are believed at first; a call that shows another one stores nothing wrong."""
    model, inputs = UnknownS2V().eval(), s2v_inputs()
    anatomy = Anatomy("wrong", tuple(model.blocks), timestep="t", latent="x", sites=(0, 4, 6))
    with recording(), synccache.cached(model, FIRST, anatomy=anatomy) as handle:
        full = call(model, 500, inputs)
        again = call(model, 499.999, inputs)
        assert handle.trace.records[1].reason == "no anchors"
        assert distance(again, full) < 1e-5
        call(model, 499.998, inputs, audio_input=inputs.audio_input)  # the site is known by now, and nothing missed
        assert handle.trace.records[2].decision == "skipped"


@pytest.mark.parametrize("recording", RECORDING)
def test_injection_that_begins_later_is_never_absorbed(recording):
    """The first calls have no audio, so no site is found; what is stored leaves the later audio out all the same.

    Under inference mode nothing tells of the sites then either: one segment spans them, and its audio hears a picture
    that is a little off.
    """
    model, inputs = UnknownS2V().eval(), s2v_inputs()
    anatomy = Anatomy("late", tuple(model.blocks), timestep="t", latent="x", live=("audio_input",))
    with recording():
        true = call(model, 500, inputs, audio_input=inputs.audio_input + 1)
        stale = call(model, 500, inputs)
        with synccache.cached(model, FIRST, anatomy=anatomy) as handle:
            call(model, 1000, inputs, audio_input=None), call(model, 999, inputs, audio_input=None)
            assert handle.anatomy.sites == ()
            handle.reset()
            runs = [call(model, 500 - i * 1e-3, inputs, audio_input=inputs.audio_input + (i > 1)) for i in range(3)]
            assert handle.trace.decisions()[::2] == ["computed", "skipped"]
    assert distance(runs[0], stale) == 0
    assert distance(runs[1], stale) < (1e-5 if recording is torch.no_grad else 0.2 * distance(stale, true))
    assert distance(runs[2], true) < 0.4 * distance(stale, true)
