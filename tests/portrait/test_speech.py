from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synccache.metrics.sync import audio_envelope, pearson
from synccache.portrait import speech


@pytest.fixture(scope="module")
def test_split() -> tuple[speech.Recording, ...]:
    return speech.corpus("test")


def test_corpus_is_whole_and_small(test_split: tuple[speech.Recording, ...]) -> None:
    assets = files("synccache.portrait") / "assets"
    sizes = [len((assets / f"{name}.ogg").read_bytes()) for name in ("speech-train", "speech-test", "demo")]
    assert sum(sizes) < 3.5e6
    assert sum(r.waveform.size for r in test_split) > 150 * speech.SAMPLE_RATE
    assert all(np.abs(r.waveform).max() > 0.2 for r in test_split)
    assert 3.0 < speech.demo().size / speech.SAMPLE_RATE < 6.0
    with pytest.raises(ValueError, match="split must be one of"):
        speech.corpus("validation")


@settings(max_examples=40, deadline=None)
@given(samples=st.integers(0, 30_000), gain=st.floats(0, 1), frames=st.none() | st.integers(0, 40))
def test_shapes_and_ranges_for_any_sound(samples: int, gain: float, frames: int | None) -> None:
    wave = (gain * np.random.default_rng(samples).standard_normal(samples)).astype(np.float32)
    count = -(-samples // 1280) if frames is None else frames
    heard = speech.features(wave, frames)
    opening, width = speech.mouth_track(wave, frames)
    assert heard.shape == (count, speech.TOKENS, 64) and heard.dtype == torch.float32
    assert opening.shape == width.shape == (count,)
    assert torch.isfinite(heard).all() and (heard >= speech.SILENCE - 1e-4).all()
    assert ((opening >= 0) & (opening <= 1)).all() and (width.abs() <= 1).all()


def test_silence_stays_silence() -> None:
    assert torch.allclose(speech.features(np.zeros(16_000)), torch.tensor(speech.SILENCE))
    hiss = np.random.default_rng(0).standard_normal(16_000)
    assert (speech.features(1e-5 * hiss) - speech.SILENCE).abs().max() < 0.2
    for gain in (0.0, 1e-5, 1e-4):
        assert all((track == 0).all() for track in speech.mouth_track(gain * hiss))
    assert speech.mouth_track(3e-4 * hiss)[0].max() < 0.05


def test_quiet_and_loud_recordings_are_alike(test_split: tuple[speech.Recording, ...]) -> None:
    wave = test_split[0].waveform
    for gain in (0.1, 2.0):
        assert torch.allclose(speech.features(gain * wave), speech.features(wave), atol=1e-3)
        assert torch.allclose(speech.mouth_track(gain * wave)[0], speech.mouth_track(wave)[0], atol=1e-3)


def test_pauses_do_not_change_the_level(test_split: tuple[speech.Recording, ...]) -> None:
    wave = test_split[1].waveform
    longer = np.concatenate([wave, np.zeros(60 * 16_000, np.float32)])
    whole = wave.size // 1280 - 1
    assert torch.allclose(speech.features(longer)[:whole], speech.features(wave)[:whole], atol=1e-3)


def test_a_frame_hears_only_its_window(test_split: tuple[speech.Recording, ...]) -> None:
    """What lies more than 120 ms from a frame's centre changes neither its features nor its mouth."""
    wave = test_split[2].waveform[: 1280 * 40]
    other = wave.copy()
    middle = 20 * 1280 + 640
    other[: middle - 1920], other[middle + 1920 :] = other[: middle - 1920][::-1], other[middle + 1920 :][::-1]
    assert torch.allclose(speech.features(wave)[20], speech.features(other)[20], atol=0.02)
    for mine, theirs in zip(speech.mouth_track(wave), speech.mouth_track(other), strict=True):
        assert torch.allclose(mine[20], theirs[20], atol=0.02)


def test_mouth_is_lively_and_follows_the_sound(test_split: tuple[speech.Recording, ...]) -> None:
    openings, widths, correlations = [], [], []
    for recording in test_split:
        opening, width = speech.mouth_track(recording.waveform)
        openings.append(opening)
        widths.append(width)
        correlations.append(pearson(opening, audio_envelope(recording.waveform, opening.numel())))
    opening, width = torch.cat(openings), torch.cat(widths)
    speaking = opening > 0.02
    assert opening[speaking].std() > 0.2 and opening.max() == 1.0 and (opening == 0).float().mean() > 0.05
    assert width[speaking].std() > 0.3
    assert np.mean(correlations) > 0.75


def vowel(formants: tuple[float, float], pitch: float = 120.0) -> np.ndarray:
    """Half a second of harmonics under two resonances."""
    time = np.arange(8000) / 16_000
    gain = lambda hertz: sum(1.0 / (1.0 + ((hertz - f) / 90.0) ** 2) for f in formants)  # noqa: E731
    wave = sum(gain(k * pitch) * np.sin(2 * np.pi * k * pitch * time + k) for k in range(1, 30))
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)


def test_vowels_shape_the_mouth() -> None:
    """In one recording: /a/ opens widest, /i/ spreads, /u/ rounds, a fricative and a hum stay nearly shut."""
    hiss = np.diff(np.random.default_rng(0).standard_normal(8001), n=1).astype(np.float32) * 0.03
    hum = (0.2 * np.sin(2 * np.pi * 140 * np.arange(8000) / 16_000)).astype(np.float32)
    sounds = [vowel((750, 1200)), vowel((280, 2300)), vowel((300, 750)), hiss, hum]
    opening, width = speech.mouth_track(np.concatenate(sounds))
    a, i, u, s, m = (opening[round(6.25 * k) + 2 : round(6.25 * k) + 5].mean().item() for k in range(5))
    wide = [width[round(6.25 * k) + 2 : round(6.25 * k) + 5].mean().item() for k in range(5)]
    assert a > 0.6 and a > max(i, u, s, m) and max(s, m) < 0.3
    assert wide[1] > 0.3 > wide[0] > -1.0 and wide[2] < -0.3


def test_mouth_can_be_learned_from_the_features(test_split: tuple[speech.Recording, ...]) -> None:
    """A small network on one frame's features explains 90 % of the opening, for other voices."""
    (heard, opening), (unheard, truth) = (
        (
            torch.cat([speech.features(r.waveform) for r in part]),
            torch.cat([speech.mouth_track(r.waveform)[0] for r in part]),
        )
        for part in (speech.corpus("train")[:36], test_split)
    )
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(320, 64), torch.nn.GELU(), torch.nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, 400)
    for _ in range(400):
        chosen = torch.randint(opening.numel(), (128,))
        loss = (network(heard[chosen])[:, 0] - opening[chosen]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        residual = (network(unheard)[:, 0] - truth).square().mean() / truth.var()
    assert 1 - residual >= 0.9, residual


def test_windows_drawn_for_training(test_split: tuple[speech.Recording, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "corpus", lambda split: test_split[:5])
    data = speech.Utterances("test", variants=2, seed=3, silent=0.3)
    rng, again = np.random.default_rng(0), np.random.default_rng(0)
    quiet = 0
    for frames in (12,) * 150 + (400,):
        heard, opening, width = data.sample(rng, frames)
        assert heard.shape == (frames, 5, 64) and opening.shape == width.shape == (frames,)
        assert torch.equal(heard, data.sample(again, frames)[0])
        quiet += int(opening.max() == 0)
    assert 25 < quiet < 80
    same = speech.Utterances("test", variants=2, seed=3, silent=0.3)
    assert all(torch.equal(x[0], y[0]) for x, y in zip(data.tracks, same.tracks, strict=True))
