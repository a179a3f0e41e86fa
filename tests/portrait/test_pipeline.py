"""From portrait and audio to frames."""

import numpy as np
import pytest
import torch

from synccache.errors import InputError
from synccache.portrait.pipeline import PortraitPipeline
from synccache.portrait.transformer import PortraitConfig, PortraitTransformer

TINY = PortraitConfig(
    image_size=32, patch_size=8, overlap=2, dim=32, ffn_dim=48, heads=2, layers=3, inject_after=(0, 2), frames=4
)


@pytest.fixture
def pipe():
    torch.manual_seed(0)
    transformer = PortraitTransformer(TINY)
    torch.nn.init.normal_(transformer.change_out.weight, std=0.05)
    return PortraitPipeline(transformer)


def speech(seconds, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, int(16000 * seconds)).astype(np.float32)


PORTRAIT = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize(("seconds", "frames"), [(0.05, 1), (0.2, 3), (0.32, 4), (0.7, 9)])
def test_the_video_covers_the_audio(pipe, seconds, frames):
    video = pipe(PORTRAIT, speech(seconds), steps=2)
    assert video.shape == (frames, 32, 32, 3) and video.dtype == np.float32
    assert video.min() >= 0 and video.max() <= 1


def test_the_seed_alone_decides_what_the_audio_leaves_open(pipe):
    first, again, other = (pipe(PORTRAIT, speech(0.3), steps=2, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_a_later_clip_continues_from_the_frames_before_it(pipe):
    """Other sound in the first clip changes the second one, whose own sound is the same."""
    shared = speech(0.32, seed=5)
    padding = np.zeros(3200, np.float32)
    with torch.no_grad():
        audio = torch.zeros(1, 4, 5, 64)
        reference = torch.zeros(1, 3, 32, 32)
        plain = pipe.denoise(reference, audio, None, steps=2)
        continued = pipe.denoise(reference, audio, pipe.last_frames(plain), steps=2)
    assert not torch.equal(plain, continued)
    first = speech(0.32, 6), speech(0.32, 7)
    one, two = (pipe(PORTRAIT, np.concatenate([s, shared, padding]), steps=2) for s in first)
    assert not np.array_equal(one[4:], two[4:])


def test_progress_counts_the_steps_of_all_clips(pipe):
    seen = []
    pipe(PORTRAIT, speech(0.7), steps=3, on_step=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 9) for i in range(1, 10)]


def test_portraits_in_a_batch_do_not_touch_each_other(pipe):
    reference, audio = torch.rand(2, 3, 32, 32) * 2 - 1, torch.randn(2, 4, 5, 64)
    both = pipe.denoise(reference, audio, steps=3, seeds=[3, 4])
    alone = pipe.denoise(reference[1:], audio[1:], steps=3, seeds=[4])
    assert (both[1:] - alone).abs().max() < 1e-4


def test_wrong_shapes_are_refused(pipe):
    with pytest.raises(InputError, match=r"must be \[32, 32, 3\], not \[16, 16, 3\]"):
        pipe(PORTRAIT[:16, :16], speech(0.2))
    with pytest.raises(InputError, match="One seed a portrait"):
        pipe.denoise(torch.zeros(2, 3, 32, 32), torch.zeros(2, 4, 5, 64), steps=2)
