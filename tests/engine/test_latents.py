"""How like one latent is to another: the same, a pass of it, moved on a little, or another picture's."""

import pytest
import torch
from calls import picture

from synccache.engine.place.latents import FAR, FAR_ON_SCHEDULE, SAMPLES, Latents, Likeness, compared, likeness


def like(now, before):
    a, b = Latents(now).sample(), Latents(before).sample()
    return likeness(compared(a, b).tolist(), a.numel())


def with_channels(latent, reference):
    return torch.cat([latent, reference], dim=1)


def test_the_same_values_are_the_same_latent():
    x = picture(1)
    assert like(x, x.clone()) == Likeness(0, 1, 0) and like(x, x.clone()).same
    assert not like(x, x.clone()).far(1.1)


def test_a_step_of_a_sampler_is_near_and_another_picture_is_far():
    x, other = picture(1), picture(2)
    for part, far in ((0.1, False), (0.7, False), (3.0, True)):
        assert like(x + part * other, x).far() is far
    assert abs(like(other, x).correlation) < 0.3 and like(other, x).far(FAR_ON_SCHEDULE)
    assert like(x * 0.5, x).correlation == pytest.approx(1)  # scaled only
    assert like(-x, x).correlation == pytest.approx(-1)


def test_only_what_has_changed_says_how_like_it_is():
    """A reference picture in channels of its own never moves, and would make any two latents alike."""
    reference = 3 * picture(9, tokens=192)
    near = like(with_channels(picture(2), reference), with_channels(picture(1), reference))
    assert near.far() and near.changed == pytest.approx(0.25, abs=0.05)
    assert like(picture(2), picture(1)).correlation == pytest.approx(near.correlation, abs=1e-5)


def test_a_pass_with_zeroed_reference_channels_is_known_as_one():
    x, reference = picture(1), picture(9) + 20  # none is 0
    with_it, without = with_channels(x, reference), with_channels(x, torch.zeros_like(reference))
    for found in (like(without, with_it), like(with_it, without)):
        assert found.is_pass and found.zeroed == 1 and found.changed == 0.5
    assert not like(picture(2), x).is_pass
    assert not like(torch.zeros_like(reference), reference).is_pass  # all of it: no latent is left that is the same


def test_so_few_elements_tell_nothing_and_what_is_no_number_is_far():
    assert not like(torch.tensor([[[1.0, -2.0]]]), torch.tensor([[[-2.0, 1.0]]])).far()
    x, broken = picture(1), picture(1)
    broken[0, 5] = float("nan")
    assert like(broken, x).far(FAR_ON_SCHEDULE) and like(x, broken).far(FAR_ON_SCHEDULE)
    assert FAR_ON_SCHEDULE < FAR


def test_all_samples_of_a_batch_are_looked_at():
    x, other = torch.cat([picture(1), picture(2)]), torch.cat([picture(1), picture(3)])
    for now, before in ((other, x), (list(other), list(x))):
        assert like(now, before).changed == pytest.approx(0.5, abs=0.1) and like(now, before).far()


def test_a_sample_is_small_and_spread_over_rows_and_columns():
    for shape in ((1, 4, 8, 64, 64), (1, 2048 * 3), (3, 100, 50), (64, 4097)):
        latents = Latents(torch.arange(float(torch.tensor(shape).prod())).reshape(shape))
        sample = latents.sample()
        assert sample.numel() <= SAMPLES and sample.dtype is torch.float32
        assert sample.data_ptr() != latents.tensors[0].data_ptr()
    wide = Latents(torch.arange(2.0**16).reshape(1, 256, 256)).sample()
    assert len({int(v) % 256 for v in wide}) > 100  # an even stride would stay in a few columns


def test_the_shape_that_makes_a_run_leaves_out_the_batch():
    one, two = torch.zeros(1, 4, 2, 2), torch.zeros(2, 4, 2, 2)
    assert Latents(one).shape == Latents(two).shape != Latents(torch.zeros(1, 4, 2, 3)).shape
    assert (Latents(one).batch, Latents(two).batch, Latents([one[0]] * 3).batch) == (1, 2, 3)
    assert Latents([one[0]]).shape == Latents([one[0]] * 3).shape != Latents([one[0, :, :1]]).shape


def test_data_that_is_known_to_be_the_same_needs_no_reading():
    x = picture(1)
    before = Latents(x)
    assert Latents(x).is_seen(before) and Latents(x[:]).is_seen(before) and Latents(x.view(1, 64, 3)).is_seen(before)
    assert not Latents(x.clone()).is_seen(before) and not Latents(x[:, 1:]).is_seen(before)
    assert not Latents([x[0]]).is_seen(before) and not Latents(x.view(1, 3, 64)).is_seen(before)
    x += 1
    assert not Latents(x).is_seen(before)  # written to since
    with torch.inference_mode():
        unknown = picture(1)
        assert not Latents(unknown).is_seen(Latents(unknown))  # no version tells
