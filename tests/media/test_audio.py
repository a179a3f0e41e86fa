from __future__ import annotations

import contextlib
import os
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import wavfile

from synccache.errors import InputError
from synccache.media import audio, video


def tone(rate: int, seconds: float, channels: int = 1, hertz: float = 220.0, peak: float = 0.5) -> np.ndarray:
    wave = peak * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)
    return np.repeat(wave[:, None].astype(np.float32), channels, axis=1)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rate=st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000, 96000]),
    channels=st.sampled_from([1, 2, 3, 6, 8, 20]),
    seconds=st.floats(0.2, 1.0),
    kind=st.sampled_from(["float32", "int16", "uint8"]),
)
def test_any_rate_and_channels_give_the_same_tone(
    tmp_path: Path, rate: int, channels: int, seconds: float, kind: str
) -> None:
    wave = tone(rate, seconds, channels)
    stored = {"float32": wave, "int16": (wave * 32767).astype(np.int16), "uint8": (wave * 127 + 128).astype(np.uint8)}
    wavfile.write(tmp_path / "a:b.wav", rate, stored[kind])
    loaded = audio.load(tmp_path / "a:b.wav")
    assert loaded.dtype == np.float32 and loaded.ndim == 1
    assert abs(loaded.size - 16_000 * seconds) < 200
    assert np.abs(loaded).max() <= 1.0
    spectrum = np.abs(np.fft.rfft(loaded * np.hanning(loaded.size)))
    assert abs(np.argmax(spectrum) * 16_000 / loaded.size - 220.0) < 8.0
    assert loaded[800:-800].max() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("suffix", "codec", "rate"), [("mp3", "mp3", 44100), ("ogg", "libopus", 48000), ("flac", "flac", 22050)]
)
def test_compressed_formats(tmp_path: Path, suffix: str, codec: str, rate: int) -> None:
    path, wave = tmp_path / f"a.{suffix}", tone(rate, 1.0)[:, 0]
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray((wave * 32767).astype(np.int16)[None], "s16", "mono")
        frame.sample_rate = rate
        for piece in av.AudioResampler(
            stream.format.name, "mono", rate, frame_size=1152 if codec == "mp3" else 960
        ).resample(frame):
            sink.mux(stream.encode(piece))
        sink.mux(stream.encode(None))
    loaded = audio.load(path)
    assert loaded.size == pytest.approx(16_000, abs=1500)
    assert np.sqrt(np.mean(loaded[2000:12000] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.08)  # LAME scales by 0.95


def test_sound_of_a_video(tmp_path: Path) -> None:
    frames = np.zeros((10, 32, 32, 3), np.uint8)
    video.write(tmp_path / "a.mp4", frames, 12.5, (tone(16_000, 0.8)[:, 0], 16_000))
    assert audio.load(tmp_path / "a.mp4").size == pytest.approx(12_800, abs=1200)


def test_silence_is_accepted_and_overshoot_scaled(tmp_path: Path) -> None:
    wavfile.write(tmp_path / "silent.wav", 8000, np.zeros(4000, np.float32))
    assert not audio.load(tmp_path / "silent.wav").any()
    wavfile.write(tmp_path / "loud.wav", 16_000, tone(16_000, 0.5, peak=3.0))
    assert np.abs(audio.load(tmp_path / "loud.wav")).max() == pytest.approx(1.0)
    broken = tone(16_000, 0.5)
    broken[100] = np.nan
    wavfile.write(tmp_path / "nan.wav", 16_000, broken)
    assert np.isfinite(audio.load(tmp_path / "nan.wav")).all()


def test_limits_on_length(tmp_path: Path) -> None:
    wavfile.write(tmp_path / "short.wav", 16_000, np.zeros(800, np.int16))
    with pytest.raises(InputError, match=r"0\.05 s of sound; at least 0\.1 s"):
        audio.load(tmp_path / "short.wav")
    wavfile.write(tmp_path / "full.wav", 8000, np.zeros(8000 * 3, np.int16))
    assert audio.load(tmp_path / "full.wav", max_seconds=3.0).size == 16_000 * 3
    with pytest.raises(InputError, match=r"longer than 2\.5 s, the limit"):
        audio.load(tmp_path / "full.wav", max_seconds=2.5)
    wavfile.write(tmp_path / "long.wav", 8000, np.zeros(8000 * 601, np.uint8))
    with pytest.raises(InputError, match="longer than 600 s"):
        audio.load(tmp_path / "long.wav")


def test_unusable_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "noise.mp3").write_bytes(np.random.default_rng(0).bytes(20_000))
    (tmp_path / "text.wav").write_text("this is no sound\n" * 50)
    video.write(tmp_path / "mute.mp4", np.zeros((3, 32, 32, 3), np.uint8), 12.5)
    wavfile.write(tmp_path / "headless.wav", 16_000, np.zeros(0, np.int16))
    cases = {
        "missing.wav": "does not exist",
        "": "is a folder",
        "empty.wav": "is empty",
        "noise.mp3": "cannot be read as audio|is corrupt",
        "text.wav": "cannot be read as audio",
        "mute.mp4": "has no sound",
        "headless.wav": "0.00 s of sound|cannot be read",
    }
    for name, words in cases.items():
        with pytest.raises(InputError, match=words) as caught:
            audio.load(tmp_path / name)
        assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(min_size=1, max_size=400), keep=st.integers(0, 400))
def test_broken_bytes_never_raise_anything_else(tmp_path: Path, data: bytes, keep: int) -> None:
    wavfile.write(tmp_path / "good.wav", 16_000, (tone(16_000, 0.2)[:, 0] * 32767).astype(np.int16))
    whole = (tmp_path / "good.wav").read_bytes()
    (tmp_path / "bad.wav").write_bytes(whole[:keep] + data)
    with contextlib.suppress(InputError):
        assert audio.load(tmp_path / "bad.wav").dtype == np.float32


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_before_anything_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(InputError, match="is a pipe or a device"):
        audio.load(tmp_path / "pipe.wav")
