"""Rendered portraits: reproducible, moving where they say, with a mouth whose opening can be measured."""

from dataclasses import replace

import numpy as np
import pytest

from synccache.portrait.motion import still
from synccache.portrait.render import measure_opening, reference, regions, render, sample_identity, sample_motion

FRAMES = 12


def a_clip(seed, speaking=True):
    rng = np.random.default_rng(seed)
    identity = sample_identity(rng)
    photo = reference(identity, rng)
    opening = np.clip(0.35 + 0.5 * np.sin(np.arange(FRAMES) * 1.5 + seed) + rng.normal(0, 0.2, FRAMES), 0, 1)
    width = np.clip(rng.normal(0, 0.4, FRAMES), -1, 1)
    motion = sample_motion(rng, opening * speaking, width * speaking)
    return identity, photo, motion, render(identity, motion)


@pytest.fixture(scope="module")
def clips():
    return [a_clip(seed) for seed in range(10)]


def test_a_clip_is_bytes_of_the_asked_size(clips):
    identity, photo, motion, frames = clips[0]
    assert frames.shape == (FRAMES, 128, 128, 3) and frames.dtype == np.uint8
    assert photo.shape == (128, 128, 3) and photo.dtype == np.uint8
    assert render(identity, motion, size=96).shape == (FRAMES, 96, 96, 3)


def test_the_same_seed_gives_the_same_clip_and_another_seed_another(clips):
    _, photo, _, frames = clips[3]
    _, again, _, frames_again = a_clip(3)
    assert np.array_equal(photo, again) and np.array_equal(frames, frames_again)
    assert np.abs(frames.astype(int) - clips[4][3].astype(int)).mean() > 5


def test_people_differ(clips):
    photos = np.stack([photo[::4, ::4] for _, photo, _, _ in clips]).astype(float)
    apart = np.abs(photos[:, None] - photos[None]).mean((2, 3, 4))
    assert apart[~np.eye(len(clips), dtype=bool)].min() > 8


def test_measured_opening_follows_the_true_one(clips):
    correlations = []
    for identity, photo, motion, frames in clips:
        measured = measure_opening(frames, regions(identity, motion)["mouth"], photo)
        assert measured.shape == (FRAMES,) and measured.dtype == np.float32
        correlations.append(np.corrcoef(measured, motion.opening)[0, 1])
    assert np.mean(correlations) >= 0.93 and min(correlations) > 0.7


def test_a_silent_mouth_measures_almost_nothing(clips):
    speaking, silent = [], []
    for seed, (identity, photo, motion, frames) in enumerate(clips[:6]):
        speaking.append(measure_opening(frames, regions(identity, motion)["mouth"], photo).max())
        _, _, closed, hushed = a_clip(seed, speaking=False)
        silent.append(measure_opening(hushed, regions(identity, closed)["mouth"], photo).max())
    assert np.mean(silent) < 0.1 * np.mean(speaking)


def test_opening_is_measured_as_a_height_and_about_in_proportion(clips):
    for identity, photo, _, _ in clips[:4]:
        steps = np.linspace(0, 1, 5, dtype=np.float32)
        motion = replace(still(5), opening=steps)
        measured = measure_opening(render(identity, motion), regions(identity, motion)["mouth"], photo)
        assert (np.diff(measured) > 0).all()
        assert 0.3 < measured[2] / measured[4] < 0.65
        assert 0.4 < measured[4] / identity.face.aperture < 1.8


def test_measuring_refuses_pictures_of_different_sizes(clips):
    identity, photo, motion, frames = clips[0]
    with pytest.raises(ValueError, match="one size"):
        measure_opening(frames, regions(identity, motion, size=64)["mouth"], photo)


def test_regions_cover_what_moves(clips):
    shares = []
    for identity, photo, motion, frames in clips:
        areas = regions(identity, motion)
        for area in areas.values():
            assert area.shape == (128, 128) and area.dtype == np.float32 and area.min() >= 0 and area.max() <= 1
        background = 1 - areas["person"]
        if np.ptp(motion.drift) == 0 and motion.drift[0] == 0:
            error = ((frames.astype(float) - photo) ** 2).mean((0, 3))
            assert 10 * np.log10(255**2 / (error * background).sum() * background.sum()) > 34
        shut = render(identity, replace(motion, opening=np.zeros_like(motion.opening)))
        spoken = np.abs(frames.astype(int) - shut.astype(int)).sum((0, 3))
        shares.append((spoken * areas["mouth"]).sum() / spoken.sum())  # the rest: chin and cheeks
        assert (spoken * background).sum() < 0.01 * spoken.sum()
    assert np.mean(shares) > 0.7 and min(shares) > 0.5


def test_the_mouth_lies_where_the_canonical_framing_has_it(clips):
    for identity, _, motion, _ in clips:
        mouth = regions(identity, motion)["mouth"]
        v, u = (np.indices(mouth.shape) * mouth).sum((1, 2)) / mouth.sum() / 128
        assert 0.58 < v < 0.80 and 0.38 < u < 0.62
        assert 0.02 < mouth.mean() < 0.20


def test_what_speech_does_not_determine_differs_between_takes():
    opening = np.linspace(0, 1, FRAMES)
    first, second = (sample_motion(np.random.default_rng(s), opening, 0 * opening) for s in (1, 2))
    assert np.array_equal(first.opening, second.opening)
    assert not np.allclose(first.yaw, second.yaw)
    takes = [sample_motion(np.random.default_rng(s), opening, 0 * opening) for s in range(60)]
    assert 0.15 < np.mean([np.ptp(take.drift) > 0 for take in takes]) < 0.5  # backgrounds that move
    assert np.mean([take.blink.max() > 0.5 for take in takes]) > 0.2
    assert np.mean([np.ptp(take.yaw) for take in takes]) > 0.05
