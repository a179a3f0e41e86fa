"""Guidance passes of a step: two, three and four of them, that differ in whatever tells a model apart."""

import pytest
import torch
from loops import LATENT, bar, noise, prompt, sample, small
from models import hunyuan, image, ltx, wan

import synccache

STEPS = 12
EVERY = range(STEPS)


def zeroed(x):
    """The same latent, its five channels of reference picture and mask empty."""
    return torch.cat([x[:, :4], torch.zeros_like(x[:, 4:])], dim=1)


def i2v(*more):
    """Passes of image-to-video, whose latent has the picture in channels of its own."""
    given = {k: v for k, v in wan.image(1).items() if k.startswith("encoder")}
    picture = noise(3, 1, 5, *LATENT[2:])
    join = lambda x: torch.cat([x, picture], dim=1)  # noqa: E731
    empty = lambda x: zeroed(join(x))  # noqa: E731
    return [{**given, "see": empty if kind == "zeroed" else join, **(kind or {} if kind != "zeroed" else {})}
            for kind in more]  # fmt: skip


SD3, HUNYUAN = image.sd3(1), hunyuan.inputs(1)
NEGATIVE = {k: image.sd3(2)[k] for k in ("encoder_hidden_states", "pooled_projections")}
GUIDANCE = [{**HUNYUAN, "guidance": torch.tensor([g])} for g in (6000.0, 1000.0)]
SKIP_LAYERS = [SD3, {**SD3, **NEGATIVE}, {**SD3, "skip_layers": [1]}]
SCALE = [{**SD3, "joint_attention_kwargs": {"scale": s}} for s in (1.0, 0.5)]
ISOLATED = [{**ltx.inputs_2(1), "isolate_modalities": on} for on in (False, True)]
OTHER_TEXT = {"encoder_hidden_states": noise(5, 1, 512, 16)}
# model, its passes, and its latent's shape
KINDS = {
    "two prompts": (small, [prompt(n) for n in (1, 2)], LATENT),
    "three prompts": (small, [prompt(n) for n in (1, 2, 3)], LATENT),
    "four prompts": (small, [prompt(n) for n in (1, 2, 3, 4)], LATENT),
    "prompts of other lengths": (small, [prompt(1), prompt(2, tokens=7)], LATENT),
    "a float in a tensor": (hunyuan.build, GUIDANCE, LATENT),
    "a prompt, and blocks left out": (image.build_sd3, SKIP_LAYERS, (1, 4, 8, 12)),
    "blocks left out": (image.build_sd3, SKIP_LAYERS[::2], (1, 4, 8, 12)),
    "a float in a dictionary": (image.build_sd3, SCALE, (1, 4, 8, 12)),
    "a flag": (ltx.build_2, ISOLATED, (1, 24, 4)),
    "a reference picture": (wan.build_image, i2v(None, "zeroed"), LATENT),
    "a prompt and a reference picture": (wan.build_image, i2v(None, OTHER_TEXT, "zeroed"), LATENT),
}
# At which steps each pass of ``count`` is made.
WHEN = {
    "always": lambda count: [EVERY] * count,
    "guidance ends early": lambda count: [EVERY, *[range(7)] * (count - 1)],
    "guidance starts late": lambda count: [EVERY, *[range(4, STEPS)] * (count - 1)],
    "guidance in between": lambda count: [EVERY, *[range(4, 9)] * (count - 1)],
    "the first ends early": lambda count: [range(7), *[EVERY] * (count - 1)],
}


def run(kind, when, told, fresh=False, swap=False, method="interval", **settings):
    """(what comes out, handle): untold, or told which pass each call is."""
    build, passes, shape = KINDS[kind]
    model, steps = build(), WHEN[when](len(passes))

    def of(step):
        chosen = [number for number in range(len(passes)) if step in steps[number]]
        chosen = chosen[::-1] if swap and step % 2 else chosen
        numbers[step] = chosen
        return [{k: v.clone() if fresh and torch.is_tensor(v) else v for k, v in passes[n].items()} for n in chosen]

    numbers = {}
    with synccache.cached(model, method, steps=STEPS, **settings) as handle:
        around = lambda step, number: handle.at(branch=f"pass {numbers[step][number]}", step=step)  # noqa: E731
        x = sample(model, of, noise(9, *shape), steps=STEPS, around=around if told else None)
    return x, handle


def same_as_told(kind, when, **how):
    found, handle = run(kind, when, told=False, **how)
    wanted, told = run(kind, when, told=True, **how)
    names = list(dict.fromkeys(r.branch for r in told.trace))
    assert [(r.run, r.step, r.evaluation, r.branch) for r in handle.trace] == [
        (0, r.step, 0, names.index(r.branch)) for r in told.trace
    ]
    assert torch.equal(found, wanted)
    return handle


@pytest.mark.parametrize(
    ("kind", "fresh"),
    [*((k, False) for k in KINDS), *((k, True) for k in KINDS if k.startswith(("three", "a float", "a flag")))],
)
def test_every_pass_is_told_from_the_others_as_if_it_had_a_name(kind, fresh):
    """``fresh``: equal values in new tensors at every call are the same conditioning."""
    handle = same_as_told(kind, "always", fresh=fresh)
    assert bar(handle) == "#..#..#..#.#"


@pytest.mark.parametrize(
    ("kind", "when"),
    [
        *((k, "guidance in between") for k in KINDS),
        ("two prompts", "guidance ends early"),
        ("three prompts", "guidance starts late"),
        ("a prompt and a reference picture", "guidance ends early"),
        ("blocks left out", "guidance starts late"),
    ],
)
def test_the_number_of_passes_may_change_during_a_run(kind, when):
    assert bar(same_as_told(kind, when)) == "#..#..#..#.#"


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"three prompts", "four prompts"}))
def test_the_first_pass_may_end_and_the_order_may_change(kind):
    same_as_told(kind, "the first ends early")
    found, handle = run(kind, "always", told=False, fresh=True, swap=True)
    assert torch.equal(found, run(kind, "always", told=True, fresh=True, swap=True)[0])
    assert handle.trace.skipped() == 7


@pytest.mark.parametrize("method", ["taylorseer", "first-block", "fora"])
def test_passes_have_values_of_their_own_in_every_scope(method):
    given = {"threshold": 0.3} if method == "first-block" else {}
    handle = same_as_told("a prompt and a reference picture", "guidance ends early", method=method, **given)
    assert handle.trace.skipped() > 5


def test_each_may_decide_for_itself():
    how = {"method": "synccache", "branches": "separate", "threshold": 0.3}
    handle = same_as_told("three prompts", "guidance ends early", **how)
    assert {r.branch for r in handle.trace if r.decides and r.decision == "skipped"} == {0, 1, 2}
