"""What the portrait model hears of a sound (`features`), and how its renderer's mouth moves to it (`mouth_track`).

Time runs in three clocks: samples at 16 kHz, hops of 160 samples (10 ms), video frames of 1280 samples (12.5 a second).
Hop n covers samples [160 n, 160 n + 160); frame t covers hops [8 t, 8 t + 8).
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SAMPLE_RATE = 16_000
FPS = 12.5
FRAME = 1280
HOP = 160
N_MELS = 32
TOKENS = 5
FEATURES = 2 * N_MELS
SILENCE = -1.2  # every feature of a silent frame

_WINDOW, _FFT = 400, 512
_LOWEST, _HIGHEST = 60.0, 7600.0
_FLOOR = 1e-4  # normalised power (−40 dB under speech level) below which everything counts as silence
_QUIETEST = 3e-3  # RMS (−50 dBFS): a recording is never amplified as if its speech level were lower than this
_REACH = 6  # hops that a frame sees on either side of its own eight
_SMOOTH = torch.hann_window(8 + 2 * _REACH + 2, periodic=False, dtype=torch.float64)[1:-1]


def _mel(hertz: np.ndarray | float) -> np.ndarray:
    return 2595.0 * np.log10(1.0 + np.asarray(hertz) / 700.0)


def _edges() -> np.ndarray:
    """Corner frequencies in Hz of the triangular mel bands, [N_MELS + 2]."""
    points = np.linspace(_mel(_LOWEST), _mel(_HIGHEST), N_MELS + 2)
    return 700.0 * (10.0 ** (points / 2595.0) - 1.0)


CENTRES = _edges()[1:-1]


@functools.cache
def _filterbank() -> Tensor:
    """Triangles of height 1, float32 [bins, N_MELS]; power summed through them is about the power in the band."""
    edges, bins = _edges(), np.arange(_FFT // 2 + 1) * SAMPLE_RATE / _FFT
    rising = (bins[:, None] - edges[None, :-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[None, 2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    return torch.from_numpy(np.clip(np.minimum(rising, falling), 0.0, None).astype(np.float32))


def _count(samples: int, frames: int | None) -> int:
    return math.ceil(samples / FRAME) if frames is None else frames


def _band_power(waveform: Tensor | np.ndarray, frames: int | None) -> Tensor:
    """Level-normalised power per hop and mel band, float32 [8 * T, N_MELS]; total about 1 in a loud vowel."""
    wave = torch.as_tensor(waveform, dtype=torch.float32).flatten()
    hops = 8 * math.ceil(wave.numel() / FRAME)
    if hops == 0:
        return torch.zeros(8 * (frames or 0), N_MELS)
    margin = (_FFT - HOP) // 2
    padded = F.pad(wave, (margin, hops * HOP - wave.numel() + margin + HOP))
    window = F.pad(torch.hann_window(_WINDOW), ((_FFT - _WINDOW) // 2,) * 2)
    spectrum = torch.stft(padded, _FFT, HOP, window=window, center=False, return_complex=True)[:, :hops]
    # Parseval: the one-sided sum of |X|^2 is RMS^2 * N * sum(w^2) / 2.
    power = torch.view_as_real(spectrum).square().sum(-1).T @ _filterbank() * (2.0 / (_FFT * float((window**2).sum())))
    total = power.sum(1)
    power = power / max(_level(total), _QUIETEST**2)
    wanted = 8 * _count(wave.numel(), frames)
    return F.pad(power, (0, 0, 0, max(0, wanted - hops)))[:wanted]


def _level(total: Tensor) -> float:
    """Power of speech, from that of all hops: the upper quartile of those within 30 dB of the loudest.

    Pauses don't count, however long, nor does a click: the loudest is a quantile of what lies within 50 dB of the peak.
    """

    def quantile(values: Tensor, share: float) -> Tensor:
        return torch.quantile(values[:: values.numel() // 1_000_000 + 1], share)

    peak = total.max()
    if peak <= 0.0:
        return 0.0
    loudest = quantile(total[total >= 1e-5 * peak], 0.995)
    return float(quantile(total[total >= 1e-3 * loudest], 0.75))


def features(waveform: Tensor | np.ndarray, frames: int | None = None) -> Tensor:
    """What the model hears: five tokens of log-mel around each video frame.

    Args:
        waveform: float32 [samples] at 16 kHz, the whole recording (its level is normalised over all of it).
        frames: number of video frames T; by default ceil(samples / 1280). Beyond the recording there is silence.

    Returns:
        float32 [T, TOKENS, 64]. Token j of frame t covers the 40 ms from hop 8 t − 6 + 4 j on: 32 means, then 32
        maxima over its four hops. Speech has about zero mean and unit variance; silence is the constant SILENCE.
    """
    log = torch.log10(_band_power(waveform, frames) + _FLOOR / N_MELS)
    silence = math.log10(_FLOOR / N_MELS)
    scaled = (log - silence) * 0.65 + SILENCE
    count = scaled.shape[0] // 8
    if count == 0:
        return torch.zeros(0, TOKENS, FEATURES)
    padded = F.pad(scaled, (0, 0, _REACH, _REACH), value=SILENCE)
    quarters = padded.unfold(0, 20, 8).reshape(count, N_MELS, TOKENS, 4)
    return torch.cat([quarters.mean(-1), quarters.amax(-1)], dim=1).transpose(1, 2).contiguous()


def _band(power: Tensor, low: float, high: float) -> Tensor:
    chosen = torch.from_numpy((low <= CENTRES) & (high > CENTRES))
    return power[:, chosen].sum(1)


def _per_frame(values: Tensor) -> Tensor:
    """Smoothed over the 20 hops that `features` shows of each frame, no others: [8 * T] -> [T]."""
    padded = F.pad(values.double(), (_REACH, _REACH))
    return (padded.unfold(0, 8 + 2 * _REACH, 8) @ (_SMOOTH / _SMOOTH.sum())).float()


def mouth_track(waveform: Tensor | np.ndarray, frames: int | None = None) -> tuple[Tensor, Tensor]:
    """The mouth that belongs to this sound: the truth by which the renderer draws and the model is judged.

    The jaw opens with loudness around the first formant of open vowels (450–1200 Hz), compressed; murmurs and nasals
    (below 450 Hz), fricatives (above 3 kHz) and silence keep it shut. The lips are wide where the second formant is
    high (front vowels, fricatives) and narrow where it is low (rounded vowels).

    Args:
        waveform: float32 [samples] at 16 kHz, the whole recording.
        frames: number of video frames T; by default ceil(samples / 1280).

    Returns:
        opening float32 [T] in 0..1 and width float32 [T] in −1..1; both are 0 in silence.
    """
    power = _band_power(waveform, frames)
    if power.shape[0] == 0:
        return torch.zeros(0), torch.zeros(0)
    low, middle = _band(power, 60, 450), _band(power, 450, 1200)
    front, high = _band(power, 1500, 3000), _band(power, 3000, 8000)
    shape = (middle + 0.3 * front) / (low + middle + front + 2.0 * high + 1e-3)
    jaw = middle.sqrt() * (0.35 + 0.65 * shape)
    opening = (_per_frame(jaw) / 0.72).clamp(min=0.0) ** 0.75
    opening = ((opening - 0.08) / 0.92).clamp(0.0, 1.0)
    loudness = _per_frame(power.sum(1).sqrt())
    present = ((loudness - 0.05) / 0.25).clamp(0.0, 1.0)
    ratio = torch.log10((_per_frame(front + high) + 1e-3) / (_per_frame(middle) + 1e-3))
    width = torch.tanh(1.2 * (ratio + 0.45)) * present
    return opening, width
