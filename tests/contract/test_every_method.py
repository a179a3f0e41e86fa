"""What every registered method has to keep, on a pipeline with guidance and on a model with Wan-S2V's structure."""

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch

import synccache
from synccache import Notice
from synccache.core.types import Action, innermost
from synccache.forecasters import Reuse
from synccache.gates import Listed, MaxGap
from synccache.inspection.stored import held
from synccache.methods import RECIPES
from synccache.planner import learn_profile
from synccache.testing import Pipeline, Video, WanModel_S2V, distance, s2v_inputs

STEPS = 20
# What a method can't do without; profiles are learnt here, by the recipe itself, on the model that they are for.
NEEDED = {
    "schedule": {"schedule": [0, 1, 2, 5, 9, 13, 19]},
    "fewer-steps": {"computed_steps": 9},
    "dbcache": {"front": 2, "back": 1},  # its eight are more than the toys have
    "profilingdit": {"blocks": [1, 2, 4]},  # what it learns from, attention of a known kind, the toys don't have
}
# Without a second branch there is nothing that "uncond-reuse" leaves out, and it says so.
alone = pytest.mark.filterwarnings("ignore:'uncond-reuse' leaves out other guidance branches only")
# A forecast by one number for the whole batch, which depends on every sample: the mean of the samples' gamma; the
# anchors' inner products, by which modes are fitted.
BY_BATCH = ("dicache", "dmd")
# They need blocks that can compute some of their tokens, which the toys' aren't known to: test_hsa.py holds them to it.
ELSEWHERE = {"hsa", "hsa-line"}
NAMES = sorted(set(RECIPES) - ELSEWHERE)
SKIPPING = [n for n in NAMES if RECIPES[n].paper != "control"]
VIDEO = Pipeline(Video())


def anatomy_of(pipe):
    return synccache.Anatomy("video", tuple(pipe.transformer.blocks), sites=(0, 2))


def measure_of(method):
    """What the method's gate looks at."""
    return innermost(method.gate).measure


@dataclass(frozen=True)
class Told:
    """Changes nothing, and tells what was decided in the end."""

    gate: Any
    decisions: list = field(default_factory=list)

    def init(self, run):
        return self.gate.init(run)

    def decide(self, state, step, seen):
        return self.gate.decide(state, step, seen)

    def record(self, state, step, decision, seen):
        self.decisions.append(decision)
        return self.gate.record(state, step, decision, seen)


def given_for(target, name, call=None, **settings):
    """``settings`` with what the method can't do without; ``call`` runs the model once."""
    given = {**NEEDED.get(name, {}), **settings}
    if RECIPES[name].learn is not None and name not in NEEDED:
        own = {k: v for k, v in given.items() if k in ("anatomy", "steps")}
        given["profile"] = learn_profile(target, name, call or target, **own)
    return given


def attached(target, name, call=None, **settings):
    return synccache.cached(target, name, **given_for(target, name, call, **settings))


@dataclass(frozen=True)
class Fixed:
    """Computes the steps on a list and no other, and lets the gate inside measure what a forecaster may ask for."""

    gate: Any
    schedule: frozenset

    def init(self, run):
        return self.gate.init(run)

    def decide(self, state, step, seen):
        decision, state = self.gate.decide(state, step, seen)
        action = Action.COMPUTE if step.index in self.schedule else Action.FILL
        return replace(decision, action=action, actions=None), state

    def record(self, state, step, decision, seen):
        return self.gate.record(state, step, decision, seen)


def fixed_to(computed, gate):
    return Fixed(gate, frozenset(computed))


def computed_steps(handle):
    return [i for i, d in enumerate(handle.trace.decisions()) if d == "computed"]


@contextmanager
def changed(target, name, call=None, change=lambda method: method, **settings):
    """The method as ``change`` makes it, with the engine's own settings kept."""
    with attached(target, name, call, **settings) as handle:
        method = handle.method
    own = {k: v for k, v in settings.items() if k in ("anatomy", "steps")}
    with synccache.cached(target, change(method), **own) as handle:
        yield handle


def s2v(model, inputs, times, grad=torch.no_grad):
    """A run of the model at ``times``; the last step's output."""

    def call():
        with grad():
            for t in times:
                out = model(inputs.x, torch.tensor([t]), inputs.context, None, inputs.audio_input, inputs.ref_latents)
        return out[0]

    return call


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_runs_skips_and_removes(name, batched):
    pipe = Pipeline(Video(), batched=batched)
    classes = [type(m) for m in pipe.transformer.modules()]
    plain = pipe()
    with attached(pipe, name) as handle:
        idle = batched and name in SKIPPING and not handle.regions  # guidance alone, which one batch leaves no work
        with pytest.warns(Notice, match="no step has called the model for one") if idle else nullcontext():
            out = pipe()
        assert torch.isfinite(out).all()
        if name in SKIPPING:
            assert (handle.trace.skipped() == 0) == idle and torch.equal(out, plain) == idle
        assert handle.trace.decisions()[0] == "computed"
    assert [type(m) for m in pipe.transformer.modules()] == classes
    assert handle.bytes == 0
    assert torch.equal(pipe(), plain)


@pytest.mark.parametrize("name", SKIPPING)
def test_guidance_in_one_batch_is_guidance_in_two_calls(name):
    """With the same steps computed, both branches of a batch are what they are in calls of their own."""
    two, one = Pipeline(Video()), Pipeline(Video(), batched=True)
    with attached(two, name) as handle:
        two()
        computed = computed_steps(handle)
    if not handle.regions:  # guidance alone: one batch has no branch to fill in
        return
    fixed = replace(handle.method, gate=fixed_to(computed, handle.method.gate), guidance=None)
    outs = []
    for pipe in (two, one):
        with synccache.cached(pipe, fixed, anatomy=anatomy_of(pipe)) as handle:
            outs.append(pipe())
            assert computed_steps(handle) == computed
    if name in BY_BATCH:  # each branch has a number of its own, a batch has one
        assert distance(*outs) < 0.05
    else:
        torch.testing.assert_close(*outs, rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*left out nothing in a run")
@pytest.mark.parametrize("name", SKIPPING)
def test_never_skipping_is_bit_equal(name):
    pipe = Pipeline(Video())
    plain = pipe()
    still = lambda method: replace(method, gate=MaxGap(method.gate, 1))  # noqa: E731
    with changed(pipe, name, change=still) as handle:  # no step may follow a computed one without being computed
        assert torch.equal(pipe(), plain)
        assert handle.trace.skipped() == 0


@pytest.mark.parametrize("name", SKIPPING)
def test_nothing_goes_by_what_a_method_is_called(name):
    pipe = Pipeline(Video())
    with attached(pipe, name, anatomy=anatomy_of(pipe)) as handle:
        out, decisions, method = pipe(), handle.trace.decisions(), handle.method
    with synccache.cached(pipe, replace(method, name="a7Qx"), anatomy=anatomy_of(pipe)) as handle:
        assert torch.equal(pipe(), out) and handle.trace.decisions() == decisions


class Scribbling(Pipeline):
    """Writes over what its transformer returned and over the latent that it gave it, once it has copies of them."""

    def __call__(self, steps=20, scribble=True):
        random = torch.Generator().manual_seed(0)
        x, audio = torch.randn(1, 4, 2, 4, 4, generator=random), torch.randn(1, 8, generator=random)
        silence = torch.zeros_like(audio)
        self.scheduler.set_timesteps(steps)
        with torch.no_grad():
            for index, t in enumerate(self.scheduler.timesteps):
                given, outs = x.clone(), []
                for heard in (audio, silence):
                    out = self.transformer(given, t.expand(1), heard)
                    outs.append(out.clone())
                    if scribble:
                        out.fill_(torch.nan)
                if scribble:
                    given.fill_(torch.nan)
                x = self.scheduler.step(outs[1] + 2 * (outs[0] - outs[1]), index, x)
        return x


@pytest.mark.parametrize("name", SKIPPING)
def test_what_others_write_over_is_no_longer_needed(name):
    pipe, outs = Scribbling(Video()), []
    given = given_for(pipe, name, lambda: pipe(scribble=False), anatomy=anatomy_of(pipe))
    for scribble in (False, True):
        with synccache.cached(pipe, name, **given) as handle:
            outs.append(pipe(scribble=scribble))
            assert handle.trace.skipped() > 0
    assert torch.isfinite(outs[0]).all() and torch.equal(*outs)


def interrupt(index):
    """A user presses the button after 12 of 20 steps."""
    if index == 11:
        raise InterruptedError


@pytest.mark.parametrize("before", ["another", "an interrupted one"])
@pytest.mark.parametrize("name", SKIPPING)
def test_the_second_run_is_as_if_it_were_the_first(name, before):
    given = given_for(VIDEO, name, anatomy=anatomy_of(VIDEO))
    with synccache.cached(VIDEO, name, **given):
        first = VIDEO(seed=1)
    with synccache.cached(VIDEO, name, **given) as handle:
        if before == "another":
            VIDEO(seed=0, shape=(2, 4, 3, 4, 4))
        else:
            with pytest.raises(InterruptedError):
                VIDEO(seed=0, on_step=interrupt)
        # The very first computed step sums block by block until it is known which hand over: the same to rounding.
        torch.testing.assert_close(VIDEO(seed=1), first, rtol=0, atol=1e-5)
        assert len(handle.trace.runs) == 2


@alone
@pytest.mark.parametrize("name", SKIPPING)
def test_a_batch_is_as_its_samples(name):
    """With steps computed that don't hang on the content: a batch of two samples is each of them alone."""
    pipe, model = Pipeline(Video()), Video()
    with attached(pipe, name) as handle:
        pipe()
        computed = computed_steps(handle)
    fixed = replace(handle.method, gate=fixed_to(computed, handle.method.gate))
    x, y, audio = torch.randn(2, 4, 2, 4, 4), torch.randn(2, 4, 2, 4, 4), torch.randn(2, 8)
    turns = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1, 1)  # each goes its own way

    def run(these):
        outs = []
        with torch.no_grad(), synccache.cached(model, fixed, steps=STEPS):
            for t in torch.linspace(1000, 50, STEPS).tolist():
                latent = x * torch.cos(turns * t / 1000) + y * torch.sin(turns * t / 1000)
                outs.append(model(latent[these], torch.tensor([t]), audio[these]))
        return torch.stack(outs, 1)  # [B, steps, ...]

    both, alone = run(slice(None)), torch.cat([run(slice(0, 1)), run(slice(1, 2))])
    as_alone = distance(both, alone)
    if name in BY_BATCH:  # near all the same: the mean of two
        assert as_alone > 1e-4
    else:
        assert as_alone < 1e-5
    assert distance(both, both.flip(0)) > 0.1  # or else mixing them wouldn't show


@alone
@pytest.mark.parametrize("recording", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", SKIPPING)
def test_what_is_filled_in_never_runs_and_everything_else_runs_once(name, recording):
    """Blocks, modules in blocks and the whole model by what the scope says; injections live but for the last."""
    model, inputs = WanModel_S2V().eval(), s2v_inputs()
    times = torch.linspace(1000, 50, STEPS).tolist()
    counted = {(i, part): m for i, b in enumerate(model.blocks) for part, m in (("", b), *b.named_children())}
    told = lambda method: replace(method, gate=Told(method.gate))  # noqa: E731
    with changed(model, name, s2v(model, inputs, times), told, steps=STEPS) as handle:
        filled_in = 0
        for t in times:
            before = {place: m.calls for place, m in counted.items()}
            model.injections.clear()
            s2v(model, inputs, [t], recording)()
            decision = handle.method.gate.decisions[-1]
            filled = [r for r in handle.regions if decision.of(r) is Action.FILL]
            out = {(i, r.part) for r in filled for i in r.members}
            whole = any(not r.members for r in filled)
            for (index, part), module in counted.items():
                runs = not whole and (index, "") not in out and (index, part) not in out
                assert module.calls - before[index, part] == runs, (index, part)
            assert model.injections == ([] if whole else [0, 2, 4, 6])
            assert handle.trace.records[-1].decision == ("skipped" if filled else "computed")
            filled_in += bool(filled)
        assert handle.trace.skipped() == filled_in and (filled_in > 0 or not handle.regions)


@pytest.mark.parametrize("name", SKIPPING)
def test_guidance_that_is_filled_in_runs_the_conditional_branch_alone(name):
    pipe = Pipeline(Video())
    with changed(pipe, name, anatomy=None) as handle:
        if handle.method.guidance is None:
            return
        before = pipe.transformer.blocks[0].calls
        pipe()
        calls = pipe.transformer.blocks[0].calls - before
        assert handle.trace.skipped() > 0 and calls == 2 * handle.trace.computed() + handle.trace.skipped()


@pytest.mark.parametrize("name", SKIPPING)
def test_a_skip_on_repeated_input_is_exact(name):
    """Where every injection site is kept (no sum of residuals spans one), what is reused is what would be computed."""
    model, inputs = WanModel_S2V().eval(), s2v_inputs()
    times = [1000.0, 999.9999]
    kept = {"cache_ratio": 1.0} if "cache_ratio" in RECIPES[name].settings else {}
    run = s2v(model, inputs, torch.linspace(1000, 50, STEPS).tolist())
    once = lambda m: replace(  # noqa: E731
        m, gate=Listed(frozenset({0}), measure_of(m).blocks), forecaster=Reuse(), guidance=None
    )
    plain = s2v(model, inputs, times)()
    with changed(model, name, run, once, steps=STEPS, **kept) as handle:
        s2v(model, inputs, times[:1])()
        before = handle.trace.skipped()
        out = s2v(model, inputs, times[1:])()
        summed = [r for r in handle.regions if r.value == "residual" and r.members]
        if not any(r.first <= site < r.last for r in summed for site in (2, 4)):
            torch.testing.assert_close(out, plain, rtol=0, atol=1e-5)
        assert handle.trace.skipped() - before == bool(handle.regions)


AFFINE = [n for n in SKIPPING if n != "l2p"]  # its rows are least squares, and needn't add up to one


@pytest.mark.parametrize("name", AFFINE)
def test_a_forecast_from_equal_anchors_is_exact(name):
    """Each with its own forecaster and as many anchors as that holds: six equal steps are computed, two filled in."""
    model, inputs = WanModel_S2V().eval(), s2v_inputs()
    times = [1000 - i * 2.0**-14 for i in range(8)]  # as near as float32 tells apart
    kept = {"cache_ratio": 1.0} if "cache_ratio" in RECIPES[name].settings else {}
    run = s2v(model, inputs, torch.linspace(1000, 50, STEPS).tolist())
    plain = s2v(model, inputs, times)()

    def six(method):  # a gate without eyes would have a list of its own, of other timesteps
        looks = measure_of(method)
        blind = Listed(frozenset(range(6)), looks.blocks)
        return replace(method, gate=fixed_to(range(6), method.gate) if looks.watches else blind, guidance=None)

    with changed(model, name, run, six, steps=STEPS, **kept) as handle:
        out = s2v(model, inputs, times)()
        assert handle.trace.skipped() == (2 if handle.regions else 0)
        summed = [r for r in handle.regions if r.value == "residual" and r.members]
        if not any(r.first <= site < r.last for r in summed for site in (2, 4)):
            torch.testing.assert_close(out, plain, rtol=0, atol=1e-3)


@alone
@pytest.mark.parametrize("name", SKIPPING)
def test_bfloat16(name):
    model, inputs = WanModel_S2V().eval().bfloat16(), s2v_inputs()
    inputs.x, inputs.context, inputs.ref_latents = (
        [v.bfloat16() for v in values] for values in (inputs.x, inputs.context, inputs.ref_latents)
    )
    inputs.audio_input = inputs.audio_input.bfloat16()
    run, outs = s2v(model, inputs, torch.linspace(1000, 500, STEPS).tolist()), {}
    for method in ("none", name):
        with attached(model, method, run, steps=STEPS) as handle:
            outs[method] = run()
    assert bool(handle.trace.skipped()) == bool(handle.regions)  # one call a step has no guidance to reuse
    assert outs[name].dtype is torch.bfloat16
    assert distance(outs[name].float(), outs["none"].float()) < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_settings_can_be_saved_and_loaded(name, tmp_path):
    pipe = Pipeline(Video())
    given = given_for(pipe, name)
    if "profile" in given:
        given["profile"] = given["profile"].save(tmp_path / "profile.safetensors")
    with synccache.cached(pipe, name, **given) as handle:
        path = handle.save(tmp_path / "settings.json")
    with synccache.cached(pipe, settings=path) as again:
        assert again.method == handle.method


# -- what is filled in is worth having ---------------------------------------------------------------------------------


class Zero:
    """Fills in zeros: nothing in place of what is left out."""

    anchors, split, gram = 1, None, False

    def weights(self, times, t, context):
        return torch.zeros(1, len(times), dtype=torch.float64)


@dataclass(frozen=True)
class Old:
    """Fills in the oldest of so many anchors: a stale one."""

    anchors: int
    split, gram = None, False

    def weights(self, times, t, context):
        return torch.eye(len(times), dtype=torch.float64)[-1:]


LAGS = {"svd-cache"}  # a moving average over eight anchors lags behind by its nature, more than one anchor
STALE = {"easycache"}  # reuses the output of the whole model over long gaps, as far as its threshold lets it


@pytest.mark.parametrize("name", SKIPPING)
def test_what_is_filled_in_is_better_than_nothing_and_than_anything_stale(name):
    """On the very same steps: zeros in its place, the first anchor of the run, the last but one; and those steps alone,
    as a sampler would take them without a cache."""
    pipe, steps = Pipeline(Video()), 24
    plain = pipe(steps=steps)
    given = {"schedule": list(range(0, steps, 2))} if name == "schedule" else {}
    given |= {"interval": 2} if "interval" in RECIPES[name].settings else {}
    with attached(pipe, name, lambda: pipe(steps=steps), **given) as handle:
        off = distance(pipe(steps=steps), plain)
        method, computed = handle.method, computed_steps(handle)
        assert off < 0.03 and 0 < handle.trace.skipped() == steps - len(computed)
    looks = measure_of(method)
    gate = Listed(frozenset(computed), looks.blocks) if looks.watches else method.gate
    for how, times in ((Zero(), 10), (Old(steps), 2), (Old(2), 1.5)):
        guidance = None if method.guidance is None else how
        with synccache.cached(pipe, replace(method, gate=gate, forecaster=how, guidance=guidance)) as handle:
            control = distance(pipe(steps=steps), plain)
            assert computed_steps(handle) == computed
        assert times * off < control or (name in LAGS and how == Old(2)), how
    with synccache.cached(pipe, "fewer-steps", schedule=computed):
        assert 1.5 * off < distance(pipe(steps=steps), plain) or name in LAGS | STALE


# -- what is kept ------------------------------------------------------------------------------------------------------

LONG = 60
TOKENS, LATENT, SIGNAL = (
    2 * 4 * 4 * 8 * 4,
    4 * 2 * 4 * 4 * 4,
    8 * 4,
)  # bytes of the stream, of a latent, of an embedding
SIZES = {"probe": TOKENS, "residual": TOKENS, "latent": LATENT, "output": LATENT, "signal": SIGNAL}


def bytes_allowed(handle, computed):
    """What may be held after so many computed steps, from the method's own parts: regions, anchors, branches, taps."""
    method = handle.method
    sizes = [TOKENS if region.members else LATENT for region in handle.regions]
    own = sum(sizes) * min(method.forecaster.anchors, computed)
    others = own if method.guidance is None else LATENT * min(method.guidance.anchors, computed)
    lead = 0 if method.guidance is None else LATENT
    looks = sum(SIZES[name] * (w.before + min(w.computed, computed)) for name, w in measure_of(method).watches.items())
    return own + others + lead + looks


@pytest.mark.parametrize("name", NAMES)
def test_bytes_are_what_the_method_says_never_grow_and_are_freed_when_the_run_ends(name):
    pipe, steps = Pipeline(Video()), LONG if name != "fewer-steps" else NEEDED[name]["computed_steps"]
    given = {"threshold": 0.3} if "threshold" in RECIPES[name].settings else {}
    given |= {"schedule": [0, 1, *range(5, LONG, 5)]} if name == "schedule" else {}
    bytes_after, computed = [], []

    def look(record):
        """After the last branch of each step but the last."""
        if not record.decides and record.step < steps - 1:
            bytes_after.append(handle.bytes)
            computed.append(handle.trace.computed())

    with attached(pipe, name, lambda: pipe(steps=LONG), anatomy=anatomy_of(pipe), **given) as handle:
        handle.on_step = look
        for _ in range(2):
            bytes_after.clear(), computed.clear()
            pipe(steps=LONG)
            allowed = [bytes_allowed(handle, n) for n in computed]
            assert len(bytes_after) == steps - 1
            assert all(have <= may for have, may in zip(bytes_after, allowed, strict=True))
            assert max(bytes_after) == max(allowed) and (max(allowed) > 0) == (name in SKIPPING)
            assert handle.bytes == 0
        method, counted = handle.method, held(handle)  # the numbers in docs/methods.md
    if method.forecaster.anchors < computed[-1]:
        assert counted["anchors"] == len(handle.regions) * method.forecaster.anchors
    assert counted["gate"] == sum(w.before + w.computed for w in measure_of(method).watches.values())
    assert counted["guidance"] == (0 if method.guidance is None else method.guidance.anchors)
