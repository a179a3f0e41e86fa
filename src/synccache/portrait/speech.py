"""The packaged speech that the portrait model learns from and is judged on, with augmentation.

`features` and `mouth_track` live in `hearing` and are the same names here.
"""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from importlib.resources import as_file, files

import numpy as np
import torch
from scipy import fft
from torch import Tensor

from synccache.media import audio
from synccache.portrait.hearing import FPS, FRAME, N_MELS, SAMPLE_RATE, SILENCE, TOKENS, features, mouth_track

__all__ = [
    "FPS",
    "FRAME",
    "N_MELS",
    "SAMPLE_RATE",
    "SILENCE",
    "TOKENS",
    "Recording",
    "Utterances",
    "corpus",
    "demo",
    "features",
    "mouth_track",
]


@dataclass(frozen=True)
class Recording:
    """A few sentences of one voice; `waveform` is float32 [samples] at 16 kHz."""

    name: str
    voice: str
    waveform: np.ndarray


@functools.cache
def corpus(split: str) -> tuple[Recording, ...]:
    """The packaged speech, decoded once a process: "train" (36 voices) or "test" (other voices, other sentences)."""
    assets = files("synccache.portrait") / "assets"
    listing = json.loads((assets / "speech.json").read_text(encoding="utf-8"))
    if split not in listing["splits"]:
        raise ValueError(f"split must be one of {sorted(listing['splits'])}, not {split!r}")
    with as_file(assets / f"speech-{split}.ogg") as path:
        wave = audio.load(path, SAMPLE_RATE, max_seconds=7200)
    return tuple(
        Recording(entry["name"], entry["voice"], wave[entry["start"] : entry["start"] + entry["samples"]])
        for entry in listing["splits"][split]
    )


def demo() -> np.ndarray:
    """The friendly sentence of `make demo`, float32 [samples] at 16 kHz; its voice is not in "train"."""
    with as_file(files("synccache.portrait") / "assets" / "demo.ogg") as path:
        return audio.load(path, SAMPLE_RATE)


class Utterances:
    """Speech ready to be drawn from: features and mouth tracks of a whole split, computed once.

    Args:
        split: "train" or "test".
        variants: how many versions of each recording. The first is the clean one; the others are augmented: another
            tempo and voice (resampled by up to 12 %), gain, pauses, noise at 5 to 40 dB, hum, telephone band,
            equaliser. The mouth follows the clean sound. "test" is best left at one.
        seed: of the augmentation.
        silent: share of drawn windows that hold silence or noise only, with a closed mouth.
    """

    def __init__(self, split: str = "train", variants: int = 1, seed: int = 0, silent: float = 0.1) -> None:
        rng = np.random.default_rng(seed)
        self.silent = silent
        self.tracks: list[tuple[Tensor, Tensor, Tensor]] = []
        for recording in corpus(split):
            for variant in range(variants):
                clean = recording.waveform if variant == 0 else _vary(recording.waveform, rng)
                heard = clean if variant == 0 else _disturb(clean, rng)
                self.tracks.append((features(heard), *mouth_track(clean)))
        # A background without speech is as loud, against the level of its recording, as in a noisy recording's pauses.
        self.pauses = [_pause(rng) for _ in range(24)]
        self._weights = np.array([track[1].numel() for track in self.tracks], np.float64)
        self._weights /= self._weights.sum()

    def sample(self, rng: np.random.Generator, frames: int = 12) -> tuple[Tensor, Tensor, Tensor]:
        """A random window: features [frames, 5, 64], opening [frames] in 0..1, width [frames] in −1..1."""
        if rng.random() < self.silent:
            pause = self.pauses[rng.integers(len(self.pauses))]
            start = int(rng.integers(max(1, pause.shape[0] - frames + 1)))
            return _window(pause, start, frames, SILENCE), torch.zeros(frames), torch.zeros(frames)
        heard, opening, width = self.tracks[rng.choice(len(self.tracks), p=self._weights)]
        start = int(rng.integers(max(1, opening.numel() - frames + 1)))
        return (
            _window(heard, start, frames, SILENCE),
            _window(opening, start, frames, 0.0),
            _window(width, start, frames, 0.0),
        )


def _window(values: Tensor, start: int, frames: int, fill: float) -> Tensor:
    """values[start : start + frames], filled up at the end where the recording is shorter."""
    piece = values[start : start + frames]
    rest = piece.new_full((frames - piece.shape[0], *piece.shape[1:]), fill)
    return torch.cat([piece, rest]) if rest.shape[0] else piece.clone()


def _noise(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of RMS 1 with a random spectral slope (white to brown), sometimes with mains hum."""
    length = fft.next_fast_len(samples, real=True)
    spectrum = fft.rfft(rng.standard_normal(length, np.float32))
    hertz = np.linspace(0, SAMPLE_RATE / 2, spectrum.size, dtype=np.float32)
    noise = fft.irfft(spectrum * (hertz + 30.0) ** -rng.uniform(0.0, 1.0), length)[:samples]
    noise /= noise.std() + 1e-9
    if rng.random() < 0.2:
        noise += np.sin(2 * np.pi * rng.choice((50, 60, 100, 120)) * np.arange(samples) / SAMPLE_RATE)
    return (noise / (noise.std() + 1e-9)).astype(np.float32)


def _pause(rng: np.random.Generator) -> Tensor:
    """Features [40, 5, 64] of a stretch without speech, cut from a recording whose level speech has set."""
    samples = 40 * FRAME
    if rng.random() < 0.4:
        return features(np.zeros(samples, np.float32))
    level = 0.1
    noise = _noise(2 * samples, rng) * level * 10 ** (-rng.uniform(12.0, 45.0) / 20)
    voice = level * np.sin(2 * np.pi * 200 / SAMPLE_RATE * np.arange(samples))  # sets the level, is cut off again
    noise[samples:] += (math.sqrt(2) * voice).astype(np.float32)
    return features(noise)[: 40 - 1]


def _vary(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other tempo and voice, a pause or two: what moves the mouth too."""
    samples = int(wave.size * rng.uniform(0.89, 1.12))
    wave = np.interp(np.linspace(0, wave.size - 1, samples), np.arange(wave.size), wave).astype(np.float32)
    for _ in range(rng.integers(0, 3)):
        at = int(rng.integers(wave.size))
        fade = np.linspace(1.0, 0.0, 160, dtype=np.float32)
        left, right = wave[:at].copy(), wave[at:].copy()
        left[-160:] *= fade[: left[-160:].size]
        right[:160] *= fade[::-1][: right[:160].size]
        wave = np.concatenate([left, np.zeros(int(rng.uniform(0.2, 1.2) * SAMPLE_RATE), np.float32), right])
    return wave


def _disturb(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise, gain, equaliser, telephone band: what must not move the mouth."""
    length = fft.next_fast_len(wave.size, real=True)
    spectrum = fft.rfft(wave.astype(np.float32), length)
    hertz = np.linspace(0, SAMPLE_RATE / 2, spectrum.size)
    tilt = rng.uniform(-4.0, 4.0)  # dB an octave from 1 kHz, within two octaves
    gain = 10 ** (tilt * np.clip(np.log2((hertz + 1) / 1000), -2, 2) / 20)
    if rng.random() < 0.2:
        gain *= (
            1.0 / (1.0 + (hertz / rng.uniform(3000, 4000)) ** 16) / (1.0 + (rng.uniform(150, 300) / (hertz + 1)) ** 8)
        )
    wave = fft.irfft(spectrum * gain, length)[: wave.size].astype(np.float32)
    if rng.random() < 0.6:
        loudness = float(np.sqrt(np.mean(wave**2)))
        wave = wave + _noise(wave.size, rng) * loudness * 10 ** (-rng.uniform(5.0, 40.0) / 20)
    return (wave * 10 ** (rng.uniform(-25.0, 3.0) / 20)).astype(np.float32)
