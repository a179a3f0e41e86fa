"""The network: shapes, clean frames, what is given, what is heard, who sees whom."""

import pytest
import torch

from synccache.errors import InputError
from synccache.stage.layout import Drawn, patches_of
from synccache.stage.transformer import StageTransformer


@torch.no_grad()
def sample(model, **inputs):
    return model(**inputs).sample


def test_its_size_is_that_of_the_issue():
    with torch.device("meta"):
        model = StageTransformer()
    assert 3e6 < sum(p.numel() for p in model.parameters()) < 8e6
    assert 12 <= len(model.blocks) <= 16 and len(model.injectors) >= 8


@pytest.mark.parametrize("frames", [4, 8, 16])
@pytest.mark.parametrize("size", [32, 48, 64])
def test_all_sizes_and_lengths(tiny, inputs, frames, size):
    given = inputs(frames, size, batch=1)
    found = sample(tiny[0], **given)
    assert found.shape == given["hidden_states"].shape and found.isfinite().all()


def test_pictures_need_not_be_square(tiny, inputs):
    given = inputs()
    given["hidden_states"] = torch.randn(2, 3, 4, 16, 24)
    assert sample(tiny[0], **given).shape == (2, 3, 4, 16, 24)


@pytest.mark.parametrize("shape", [(2, 3, 3, 16, 16), (2, 3, 4, 18, 16)])
def test_sizes_that_do_not_fit_are_refused(tiny, inputs, shape):
    given = {**inputs(), "hidden_states": torch.zeros(shape)}
    with pytest.raises(InputError, match="even number of frames"):
        sample(tiny[0], **given)


def test_a_vector_of_equal_levels_is_one_level(tiny, inputs):
    given = inputs()
    one = sample(tiny[0], **given)
    many = sample(tiny[0], **{**given, "timestep": given["timestep"][:, None].expand(-1, 2)})
    assert torch.allclose(one, many, atol=1e-4)


def test_clean_frames_stay_and_are_seen(tiny, inputs):
    given = inputs()
    given["timestep"] = torch.tensor([[0.0, 700.0]]).expand(2, -1)
    found = sample(tiny[0], **given)
    assert (found[:, :, :2] == 0).all() and (found[:, :, 2:] != 0).any()
    other = given["hidden_states"].clone()
    other[:, :, :2] += 1
    assert not torch.allclose(sample(tiny[0], **{**given, "hidden_states": other})[:, :, 2:], found[:, :, 2:])


@pytest.mark.parametrize("name", ["first", "reference", "source"])
def test_what_is_given_is_seen(tiny, inputs, name):
    given = inputs()
    shape = (2, 3, 4, 16, 16) if name == "source" else (2, 3, 16, 16)
    found = [sample(tiny[0], **given, **{name: torch.full(shape, value)}) for value in (-0.5, 0.5)]
    assert found[0].shape == given["hidden_states"].shape
    assert not torch.allclose(*found) and not torch.allclose(found[0], sample(tiny[0], **given))


def test_each_frame_hears_its_own_sound(tiny, inputs):
    """The last injector alone: what it adds to a frame depends on that frame's audio tokens only."""
    injector = tiny[0].injectors["3"]
    tokens, audio = torch.randn(2, 2 * 16, 32), torch.randn(2, 2, 10, 32)
    other = audio.clone()
    other[:, 1] += 1
    with torch.no_grad():
        a, b = injector(tokens, audio), injector(tokens, other)
    assert torch.equal(a[:, :16], b[:, :16]) and not torch.allclose(a[:, 16:], b[:, 16:])


def test_both_tracks_and_the_caption_are_heard(tiny, inputs):
    given = inputs()
    found = sample(tiny[0], **given)
    for stream in (0, 1):
        audio = given["audio"].clone()
        audio[:, stream] += 1
        assert not torch.allclose(sample(tiny[0], **{**given, "audio": audio}), found)
    text = given["encoder_hidden_states"] + 1
    assert not torch.allclose(sample(tiny[0], **{**given, "encoder_hidden_states": text}), found)


@pytest.mark.parametrize("extra", [None, "first", "source"])
def test_causal_frames_do_not_depend_on_later_ones(tiny, inputs, extra):
    given = inputs(frames=6)
    shape = (2, 3, 6, 16, 16) if extra == "source" else (2, 3, 16, 16)
    if extra:
        given[extra] = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    later = given["hidden_states"].clone()
    later[:, :, 4:] += 1
    sound = given["audio"].clone()
    sound[:, :, 4:] += 1
    changed = {**given, "hidden_states": later, "audio": sound}
    for causal in (True, False):
        a, b = (sample(tiny[0], **x, causal=causal) for x in (given, changed))
        assert torch.allclose(a[:, :, :4], b[:, :, :4], atol=1e-5) == causal
    earlier = given["hidden_states"].clone()
    earlier[:, :, :2] += 1
    a, b = (sample(tiny[0], **x, causal=True) for x in (given, {**given, "hidden_states": earlier}))
    assert not torch.allclose(a[:, :, 4:], b[:, :, 4:])


def test_patches_overlap_and_add_up():
    video = torch.arange(2 * 8 * 8, dtype=torch.float32).reshape(1, 1, 2, 8, 8)
    cut = patches_of(video)
    assert cut.shape == (1, 1, 4, 2 * 64)
    first = cut[0, 0, 0].reshape(2, 8, 8)
    assert torch.equal(first[:, 2:, 2:], video[0, 0, :, :6, :6]) and (first[:, :2] == 0).all()
    head = Drawn(4)
    with torch.no_grad():
        head.weight.fill_(1.0)
    drawn = head(torch.ones(1, 1, 4, 4), (8, 8))
    assert drawn.shape == (1, 3, 2, 8, 8)
    assert drawn[0, 0, 0, 0, 0] == 4 and drawn[0, 0, 0, 3, 3] == 16  # one patch there, four here
