"""Which token a place in the video is: a change at one place of the latent changes one token of the first block."""

import pytest
import torch
from models import hunyuan, ltx, others, wan

from synccache import anatomies
from synccache.core.anatomy import bind, original_class

CASES = [case for module in (wan, hunyuan, ltx, others) for case in module.CASES]
EACH = pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast")  # diffusers' Mochi asks for float32 there


def first_stream(case, model, arguments):
    """[B, S, D] main stream that the first block receives, and this call's grid and index of the first video token."""
    anatomy, seen = anatomies.find(model), {}
    block = anatomy.blocks[0]
    name = next(iter(anatomy.streams[type(block).__name__]))

    def keep(module, args, kwargs):
        seen["stream"] = bind(original_class(module), args, kwargs)[name].clone()

    hook = block.register_forward_pre_hook(keep, with_kwargs=True)
    arguments = {**arguments, case.timestep: case.times(0)}
    with torch.no_grad():
        model(**arguments)
    hook.remove()
    first = anatomy.ahead(arguments) if anatomy.ahead is not None else anatomy.offset
    return seen["stream"], anatomy.grid(arguments), first


def touched(case, latent, grid, place):
    """``latent`` with another value at the (t, h, w) ``place`` of the token grid."""
    latent = latent.clone()
    if latent.ndim == 3:  # tokens already
        latent[:, (place[0] * grid[1] + place[1]) * grid[2] + place[2]] += 1
        return latent
    view = latent.transpose(1, 2) if case.anatomy == "cogvideox" else latent
    video = view[:, :, 1:] if case.anatomy == "wan-animate" else view  # after the reference picture
    size = [s // g for s, g in zip(video.shape[2:], grid, strict=True)]
    t, h, w = (slice(p * s, (p + 1) * s) for p, s in zip(place, size, strict=True))
    video[:, :, t, h, w] += 1
    return latent


@EACH
def test_the_grid_and_the_offset_say_which_token_a_place_is(case):
    model, inputs = case.build(), case.inputs(0)
    anatomy = anatomies.find(model)
    before, grid, first = first_stream(case, model, inputs)
    t, h, w = grid
    behind = h * w if case.name == "portrait" else 0  # motion tokens
    assert (first + t * h * w + behind, anatomy.width) == before.shape[1:]
    for place in ((0, 0, 0), (t - 1, h - 1, 0), (t - 1, 0, w - 1)):
        changed = {**inputs, anatomy.latent: touched(case, inputs[anatomy.latent], grid, place)}
        after, *_ = first_stream(case, model, changed)
        differ = (after - before).abs().amax(dim=(0, 2)).nonzero().flatten().tolist()
        assert differ == [first + (place[0] * h + place[1]) * w + place[2]]


def test_cogvideox_pads_an_odd_number_of_frames():
    """CogVideoX-1.5 takes two frames to a token; a last one alone has a token of its own."""
    case = next(c for c in others.CASES if c.name == "cogvideox-1.5")
    grid = anatomies.find(case.build()).grid
    assert grid({"hidden_states": torch.zeros(1, 5, 4, 4, 6)}) == (3, 2, 3)


def test_ltx_without_sizes_or_with_too_few_tokens_has_no_grid():
    grid = anatomies.find(ltx.build()).grid
    tokens = torch.zeros(1, 24, 4)
    assert grid({"hidden_states": tokens, **ltx.SIZE}) == (2, 3, 4)
    assert grid({"hidden_states": torch.zeros(1, 30, 4), **ltx.SIZE}) == (2, 3, 4)  # six more for conditioning
    assert grid({"hidden_states": tokens, "num_frames": 2, "height": 3}) is None
    assert grid({"hidden_states": tokens[:, :23], **ltx.SIZE}) is None
