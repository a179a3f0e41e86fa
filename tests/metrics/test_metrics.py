from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from synccache.metrics import fidelity, statistics, sync

tracks = arrays(np.float64, st.integers(2, 40), elements=st.floats(-1e6, 1e6))


def test_psnr_known_value_and_broadcast() -> None:
    a = torch.zeros(5, 16, 16, 3)
    assert fidelity.psnr(a, a + 0.1) == pytest.approx(20.0, abs=1e-4)
    assert fidelity.psnr(a.numpy() * 255.0, a.numpy() + 25.5, data_range=255.0) == pytest.approx(20.0, abs=1e-4)
    assert fidelity.psnr(a, torch.full((16, 16, 3), 0.1)) == pytest.approx(20.0, abs=1e-4)
    assert fidelity.psnr(a, a) == fidelity.CAP_DB and math.isfinite(fidelity.CAP_DB)


def test_a_clip_that_is_not_finite_is_no_perfect_copy():
    clip = np.zeros((2, 12, 12, 3))
    broken = clip.copy()
    broken[0, 3, 3, 0] = np.nan
    assert fidelity.psnr(clip, clip) == 100 and fidelity.psnr(broken, clip) == 0


def test_mask_weighs_the_error() -> None:
    a, b = np.zeros((3, 8, 8, 3)), np.zeros((3, 8, 8, 3))
    b[:, :4], b[:, 4:] = 0.1, 0.01
    mask = np.zeros((8, 8))
    mask[:4] = 1.0
    assert fidelity.psnr(a, b, mask) == pytest.approx(20.0)
    assert fidelity.psnr(a, b, 0.5 * mask) == pytest.approx(20.0)
    assert fidelity.background_psnr(b, a[0], mask) == pytest.approx(40.0)
    expected = (0.75 * 0.01 + 0.25 * 0.0001) / 1.0
    assert fidelity.psnr(a, b, 0.25 + 0.5 * mask) == pytest.approx(-10 * math.log10(expected))
    for wrong in (np.zeros((8, 8)), mask - 0.5):
        with pytest.raises(ValueError, match="mask needs weights"):
            fidelity.psnr(a, b, wrong)


def test_wrong_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        fidelity.psnr(np.zeros((1, 8, 8, 3)), np.zeros((1, 8, 9, 3)))
    with pytest.raises(ValueError, match="divide 8-bit frames"):
        fidelity.psnr(np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8, 3)))


def test_ssim_orders_by_structure() -> None:
    a = torch.rand(2, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    brighter, noisy = a * 0.9 + 0.05, (a + 0.3 * torch.randn(a.shape)).clamp(0, 1)
    assert fidelity.ssim(a, a) == pytest.approx(1.0)
    assert fidelity.ssim(a, noisy) < fidelity.ssim(a, brighter) < 1.0


def test_temporal_std_by_region() -> None:
    frames = torch.zeros(10, 8, 8, 3)
    frames[::2, :4] = 1.0
    mask = torch.zeros(8, 8)
    mask[:4] = 1
    assert fidelity.temporal_std(frames, mask) == pytest.approx(0.5)
    assert fidelity.temporal_std(frames, 1 - mask) == 0.0
    assert fidelity.temporal_std(frames) == pytest.approx(0.25)


@given(tracks, st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_pearson_is_finite_bounded_and_symmetric(x: np.ndarray, scale: float, shift: float) -> None:
    y = np.roll(x, 1)
    r = sync.pearson(x, y)
    assert -1.0 <= r <= 1.0 and r == pytest.approx(sync.pearson(y, x))
    if np.ptp(x) > 1e-3 * max(1.0, np.abs(x).max()):
        assert sync.pearson(x, scale * x + shift) == pytest.approx(1.0, abs=1e-3)
        assert r == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)


@given(st.floats(-1e300, 1e300), st.integers(0, 30))
def test_constant_tracks_correlate_with_nothing(value: float, frames: int) -> None:
    other = np.arange(frames, dtype=float)
    assert sync.pearson(np.full(frames, value), other) == 0.0
    assert sync.sync(np.full(frames, value), other) == {"correlation": 0.0, "best_lag": 0, "best_correlation": 0.0}


@settings(max_examples=40)
@given(st.integers(-3, 3), st.integers(0, 1000))
def test_lag_is_found_and_its_sign(lag: int, seed: int) -> None:
    sound = np.random.default_rng(seed).standard_normal(60)
    found = sync.sync(torch.from_numpy(np.roll(sound, lag)), sound)
    assert found["best_lag"] == lag and found["best_correlation"] == pytest.approx(1.0)


def test_opening_rms_and_range() -> None:
    track = np.linspace(0.0, 1.0, 101)
    span = sync.speaking_range(track)
    assert span == pytest.approx(0.9)
    assert sync.opening_rms(track, track + 0.09, span) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="above 0"):
        sync.opening_rms(track, track, 0.0)


@given(st.integers(0, 20_000), st.integers(0, 20))
def test_envelope_of_any_length(samples: int, frames: int) -> None:
    envelope = sync.audio_envelope(np.full(samples, 0.5), frames)
    assert envelope.shape == (frames,) and np.isfinite(envelope).all() and (envelope >= 0).all()


def test_envelope_follows_loudness() -> None:
    wave = np.zeros(12_800)
    wave[5120:7680] = np.sin(np.arange(2560))
    envelope = sync.audio_envelope(wave, 10)
    assert int(envelope[:5].argmax()) == 4 and envelope[[0, 1, 2, 7, 8, 9]].max() == 0.0
    assert envelope[4] == pytest.approx(envelope[5], rel=1e-3) and 0.5 < envelope[4] < 0.71


def test_bootstrap_interval() -> None:
    differences = np.random.default_rng(1).normal(1.0, 0.5, 40)
    mean, low, high = statistics.paired_bootstrap(differences)
    error = differences.std(ddof=1) / math.sqrt(40)
    assert mean == pytest.approx(differences.mean())
    assert low == pytest.approx(mean - 1.96 * error, abs=0.4 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.4 * error)
    assert statistics.paired_bootstrap(differences) == (mean, low, high)
    assert statistics.paired_bootstrap([2.0]) == (2.0, 2.0, 2.0)
    for wrong in ([], [math.nan]):
        with pytest.raises(ValueError, match="finite and at least one"):
            statistics.paired_bootstrap(wrong)
