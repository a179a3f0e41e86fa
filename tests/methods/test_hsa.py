"""HSA as a method: what it costs, who is in which group, what it holds, what it refuses."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from models.wan import build

import synccache
from synccache import InputError, Notice, UnsupportedModel
from synccache.core.groups import take, to_tokens
from synccache.core.types import Action, Run, Seen, Step, Tap
from synccache.gates import Allocation
from synccache.portrait.pipeline import PortraitPipeline
from synccache.portrait.transformer import PortraitConfig, PortraitTransformer
from synccache.testing import Pipeline, Video, distance
from synccache.testing.toys import seeded

TINY = PortraitConfig(
    image_size=64, patch_size=8, overlap=2, dim=32, ffn_dim=48, heads=2, layers=4, inject_after=(0, 1, 3), frames=4
)
GRID, TOKENS = (4, 8, 8), 256
NAMES = ["hsa", "hsa-line"]
every = pytest.mark.parametrize("name", NAMES)


def tiny():
    """Weights as training begins with them: a calm model, so that errors don't grow of themselves."""
    with seeded(0):
        return PortraitPipeline(PortraitTransformer(TINY))


@pytest.fixture(scope="module")
def pipe():
    return tiny()


def sample(pipe, steps=40, motion=False, batch=1, seed=0, on_step=None, only=slice(None)):
    random = torch.Generator().manual_seed(seed)
    picture = torch.rand(batch, 3, 64, 64, generator=random) * 2 - 1
    audio, before = torch.randn(batch, 4, 5, 64, generator=random), torch.rand(batch, 6, 64, 64, generator=random)
    return pipe.denoise(
        picture[only], audio[only], before[only] if motion else None, steps=steps, guidance_scale=2.0,
        seeds=list(range(batch))[only], on_step=on_step,
    )  # fmt: skip


@pytest.mark.parametrize("motion", [False, True])
@pytest.mark.parametrize("budget", [0.25, 0.5, 0.75])
@every
def test_it_costs_what_was_asked(pipe, name, budget, motion):
    """Counted in block-tokens as the blocks themselves see them."""
    seen = []
    hooks = [
        b.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1])) for b in pipe.transformer.blocks
    ]
    try:
        with synccache.cached(pipe, name, budget=budget) as handle:
            sample(pipe, motion=motion)
    finally:
        for hook in hooks:
            hook.remove()
    full = 40 * 2 * 4 * (TOKENS + 64 * motion)
    assert sum(seen) / full == pytest.approx(handle.trace.cost()) == pytest.approx(budget, rel=0.03)
    assert f"{handle.trace.cost():.1%} of the blocks' tokens" in handle.trace.summary()
    assert handle.trace.decisions()[:5] == ["computed"] * 5 and handle.trace.decisions()[-1] == "computed"


@pytest.mark.parametrize("steps", [20, 28, 30, 50])
def test_it_costs_what_was_asked_in_runs_of_other_lengths(pipe, steps):
    with synccache.cached(pipe, "hsa", budget=0.5) as handle:
        sample(pipe, steps=steps)
        assert handle.trace.cost() == pytest.approx(0.5, rel=0.03)


@every
def test_more_budget_is_nearer(pipe, name):
    plain, offs = sample(pipe), []
    for budget in (0.25, 0.5, 0.75, 0.97):
        with synccache.cached(pipe, name, budget=budget):
            offs.append(distance(sample(pipe), plain))
    assert offs == sorted(offs, reverse=True) and offs[-1] < 0.3 * offs[0]


@pytest.mark.filterwarnings("ignore:.*left out nothing")
@every
def test_one_group_is_the_untouched_model_bit_for_bit(pipe, name):
    plain = sample(pipe)
    with synccache.cached(pipe, name, divisors=[1], budget=1.0) as handle:
        assert torch.equal(sample(pipe), plain)
        assert handle.trace.cost() == 1 and handle.trace.computed() == 40


def interrupt(done, of):
    if done == 12:
        raise InterruptedError


@every
def test_the_second_run_is_as_if_it_were_the_first(pipe, name):
    plain, classes = sample(pipe), [type(m) for m in pipe.transformer.modules()]
    with synccache.cached(pipe, name):
        first = sample(pipe)
    with synccache.cached(pipe, name) as handle:
        sample(pipe, motion=True, seed=5, batch=2)
        with pytest.raises(InterruptedError):
            sample(pipe, on_step=interrupt)
        torch.testing.assert_close(sample(pipe), first, rtol=0, atol=1e-5)
        assert handle.bytes == 0
    assert torch.equal(sample(pipe), plain) and [type(m) for m in pipe.transformer.modules()] == classes


@every
def test_nothing_goes_by_what_it_is_called(pipe, name):
    with synccache.cached(pipe, name) as handle:
        first, method = sample(pipe), handle.method
    with synccache.cached(pipe, replace(method, name="a7Qx")):
        torch.testing.assert_close(sample(pipe), first, rtol=0, atol=1e-6)


@every
def test_what_others_write_over_is_no_longer_needed(pipe, name, monkeypatch):
    """What the transformer returned, and the latent that it was given."""
    with synccache.cached(pipe, name):
        first = sample(pipe)

    def wrapped(call):
        def scribbling(latents, *args, **kwargs):
            given = latents.clone()
            out = call(given, *args, **kwargs)
            kept = out.clone()
            out.fill_(torch.nan), given.fill_(torch.nan)
            return kept

        return scribbling

    class Scribbling(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner
            self.forward = wrapped(inner)
            self.cache_context = inner.cache_context

    with synccache.cached(pipe, name):
        inner = pipe.transformer
        monkeypatch.setattr(pipe, "transformer", Scribbling(inner))
        torch.testing.assert_close(sample(pipe), first, rtol=0, atol=1e-6)
        monkeypatch.undo()


@every
@pytest.mark.parametrize("later", [torch.no_grad, torch.inference_mode])
def test_inference_mode_may_begin_and_end_within_a_run(name, later):
    model, text, x = build(layers=2), torch.randn(1, 5, 16), torch.randn(1, 4, 3, 4, 6)
    earlier = torch.no_grad if later is torch.inference_mode else torch.inference_mode
    outs = []
    for change in (0, 12):
        with synccache.cached(model, name, steps=40):
            for step in range(40):
                with (earlier if step < change else later)():
                    time = torch.tensor([990.0 - 24 * step])
                    out = model(x * (1 - 0.01 * step), time, text, return_dict=False)[0]
            outs.append(out.clone())
    torch.testing.assert_close(*outs, rtol=0, atol=1e-5)


@every
def test_a_batch_is_as_its_samples(pipe, name):
    with synccache.cached(pipe, name):
        both = sample(pipe, batch=2)
        alone = torch.cat([sample(pipe, batch=2, only=slice(i, i + 1)) for i in range(2)])
    torch.testing.assert_close(both, alone, rtol=0, atol=2e-4)


@every
def test_half_precision(name):
    pipe = tiny()
    pipe.transformer.bfloat16()
    random = torch.Generator().manual_seed(0)
    picture, audio = torch.rand(1, 3, 64, 64, generator=random).bfloat16(), torch.randn(1, 4, 5, 64).bfloat16()
    plain = pipe.denoise(picture, audio, steps=20, guidance_scale=2.0)
    with synccache.cached(pipe, name, budget=0.75) as handle:
        out = pipe.denoise(picture, audio, steps=20, guidance_scale=2.0)
        assert out.dtype is torch.bfloat16 and distance(out.float(), plain.float()) < 0.6
        assert 0.7 < handle.trace.cost() < 0.8


@every
def test_no_number_is_brought_to_the_host_for_it(pipe, name):
    with synccache.cached(pipe, "interval") as handle:
        sample(pipe)
        reads = handle.engine.reads
    with synccache.cached(pipe, name) as handle:
        sample(pipe)
        assert handle.engine.reads == reads


@every
def test_its_settings_can_be_saved_and_loaded(pipe, name, tmp_path):
    with synccache.cached(pipe, name, budget=0.3, divisors=[1, 2, 10], limit=10**9) as handle:
        path = handle.save(tmp_path / "settings.json")
    with synccache.cached(pipe, settings=path) as again:
        assert again.method == handle.method


def test_wan_with_two_experts_keeps_to_what_each_has_computed():
    """The second one's first step is computed in full, since nothing of it is stored."""
    models, wan = [build(layers=2), build(layers=2)], None

    class Two:
        transformer, transformer_2 = models
        scheduler = None

    text, x = torch.randn(1, 5, 16), torch.randn(1, 4, 3, 4, 6)
    wan = Two()
    with torch.no_grad(), synccache.cached(wan, "hsa", steps=40) as handle:
        for step in range(40):
            v = models[step >= 22](x, torch.tensor([1000.0 - 25 * step]), text, return_dict=False)[0]
            x = x - 0.025 * v
        decisions = handle.trace.decisions()
        assert decisions[22] == "computed" and decisions[21] == decisions[23] == "skipped" and torch.isfinite(x).all()
        assert handle.trace.cost() == pytest.approx(0.5, rel=0.05)


# -- groups ----------------------------------------------------------------------------------------------------------


def test_the_liveliest_tokens_are_in_the_first_group():
    """Each sample's own, by the mean relative change over the first five steps."""
    gate, seen = Allocation(0.5, (1, 4, 20)), None
    random = torch.Generator().manual_seed(0)
    videos = [torch.randn(2, 3, 4, 16, 16, generator=random) for _ in range(5)]
    state = gate.init(Run(40))
    for index in range(6):
        taps = {"output": Tap(None, computed=tuple(videos[index - 1 :: -1][:2]) if index else ())}
        seen = Seen(taps, grid=(4, 4, 4))
        decision, state = gate.decide(state, Step(index, 0.0, 40), seen)
    assert decision.action is Action.FILL and decision.active == (0,)
    change = torch.zeros(2, 64)
    for before, now in pairwise(videos):
        for b in range(2):
            for token in range(64):
                t, h, w = token // 16, token // 4 % 4, token % 4
                at = (b, slice(None), t, slice(4 * h, 4 * h + 4), slice(4 * w, 4 * w + 4))
                change[b, token] += (now[at] - before[at]).abs().sum() / before[at].abs().sum()
    sizes = decision.groups.sizes
    assert sum(sizes) == 64 and gate.cost(40, sizes) == pytest.approx(0.5, rel=0.03)
    for b in range(2):
        lively = change[b].argsort(descending=True)[: sizes[0]].sort().values
        assert torch.equal(decision.groups.tokens((0,))[b], lively)
    assert not torch.equal(*decision.groups.tokens((0,)))


def test_each_group_is_computed_on_the_steps_that_its_divisor_divides(pipe, monkeypatch):
    """The velocity of a token stays, but where it is computed again."""
    outs, states, move = [], [], pipe.scheduler.step

    def step(velocity, *args, **kwargs):
        outs.append(to_tokens(velocity, GRID))
        return move(velocity, *args, **kwargs)

    monkeypatch.setattr(pipe.scheduler, "step", step)
    with synccache.cached(pipe, "hsa", divisors=[1, 3, 12]) as handle:
        sample(pipe, on_step=lambda *_: states.append(next(iter(handle.engine.sessions.values())).gates.get(None)))
    groups = states[30].groups.numbers[0]
    for index in range(5, 39):
        changed = (outs[index] != outs[index - 1]).any(-1)[0]
        for group, divisor in enumerate((1, 3, 12)):
            assert bool(changed[groups == group].all()) == (index % divisor == 0)
            assert index % divisor == 0 or not changed[groups == group].any()


@pytest.mark.parametrize("budget", [0.2, 0.25, 0.5, 0.75, 0.9])
@pytest.mark.parametrize("others", [0, 64])
def test_sizes_follow_from_the_budget(budget, others):
    gate = Allocation(budget)
    sizes = gate.sizes(40, 768, others)
    assert sum(sizes) == 768 and min(sizes) >= 0
    rows = 0
    for step in range(40):
        full = step < 5 or step == 39
        active = [full or step % d == 0 for d in (1, 4, 20)]
        rows += sum(n for n, on in zip((*sizes[:2], sizes[2] + others), active, strict=True) if on)
    assert rows / 40 / (768 + others) == pytest.approx(gate.cost(40, sizes, others)) == pytest.approx(budget, rel=0.03)


# -- what is refused -------------------------------------------------------------------------------------------------


def test_a_budget_that_cannot_be_kept_is_refused(pipe):
    with synccache.cached(pipe, "hsa", budget=0.1), pytest.raises(InputError, match=r"it costs 0\.175 of the full run"):
        sample(pipe)


def test_bytes_over_the_limit_are_refused(pipe):
    with synccache.cached(pipe, "hsa") as handle:
        sample(pipe)
        peak = handle.trace.bytes_peak
    with synccache.cached(pipe, "hsa", limit=peak) as handle:
        sample(pipe)
    with synccache.cached(pipe, "hsa", limit=peak // 3), pytest.raises(InputError, match="limit= leaves"):
        sample(pipe)


@pytest.mark.parametrize(
    "given",
    [{"budget": 0}, {"budget": 1.5}, {"divisors": [2, 4]}, {"divisors": [1, 1]}, {"divisors": []}, {"limit": 0}],
)
def test_settings_are_checked(pipe, given):
    with pytest.raises(InputError, match=next(iter(given))), synccache.cached(pipe, "hsa", **given):
        pass


def test_speed_is_not_for_it(pipe):
    with pytest.raises(InputError, match="goes by budget="), synccache.cached(pipe, "hsa", speed=3):
        pass


def test_other_models_are_refused():
    with (
        pytest.raises(UnsupportedModel, match="lets some tokens be computed"),
        synccache.cached(Pipeline(Video()), "hsa"),
    ):
        pass


def test_a_run_whose_length_nobody_tells_is_computed():
    model, text, x = build(layers=2), torch.randn(1, 5, 16), torch.randn(1, 4, 3, 4, 6)
    with torch.no_grad(), synccache.cached(model, "hsa") as handle, pytest.warns(Notice, match="steps="):
        for step in range(10):
            model(x * (1 - 0.01 * step), torch.tensor([900.0 - step]), text, return_dict=False)
        assert handle.trace.skipped() == 0


def test_tokens_cover_the_picture():
    video = torch.randn(1, 3, 4, 64, 64)
    assert to_tokens(video, GRID).shape == (1, math.prod(GRID), 3 * 64)
    assert take(to_tokens(video, GRID), torch.arange(2)[None], 1).shape[1] == 2
