"""Reads the sound of any file that PyAV can open, as mono float32 at one rate."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain, groupby
from typing import Any

import av
import numpy as np

from synccache.errors import InputError
from synccache.files import existing_file

SHORTEST = 0.1
LONGEST = 600.0
CANCELLED = 0.1


def load(
    path: str | os.PathLike[str], rate: int = 16_000, max_seconds: float = LONGEST, min_seconds: float = SHORTEST
) -> np.ndarray:
    """The first audio stream of a file; several channels are averaged, unless they cancel each other out.

    Args:
        path: any container that PyAV reads (wav, mp3, ogg, flac, m4a, mp4, …), any rate, any number of channels;
            both may change in mid-file, as in MP3s that were joined.
        rate: the rate that comes back, in samples per second.
        max_seconds: longer recordings are refused; decoding stops there, so a huge file costs no memory.
        min_seconds: shorter recordings are refused.

    Returns:
        float32 [samples] in −1..1, scaled down where channels or resampling overshoot. Silence comes back as zeros.

    Raises:
        InputError: the file is missing, a folder, empty, not readable as media, without sound, too short or too long.
    """
    name = existing_file(path, "an audio file")
    try:
        with open_media(name) as container:
            wave = _decode(container, rate, max_seconds, name)
    except InputError:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{name} cannot be read as audio ({reason}): it is corrupt or of an unknown format; "
            "convert it to WAV, FLAC, MP3 or OGG."
        ) from error
    if wave.size < round(min_seconds * rate):
        raise InputError(f"{name} holds {wave.size / rate:.2f} s of sound; at least {min_seconds:g} s are needed.")
    peak = float(np.abs(wave).max(initial=0.0))
    return wave / np.float32(peak) if peak > 1.0 else wave


def open_media(name: str) -> Any:
    """Open a local file for reading; a colon in its name starts no protocol."""
    return av.open(f"file:{name}", metadata_errors="ignore")


def _decode(container: av.container.InputContainer, rate: int, max_seconds: float, name: str) -> np.ndarray:
    stream = next((s for s in container.streams.audio if s.codec_context is not None), None)
    if stream is None:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise InputError(f"{name} has no sound that can be decoded, only {kinds}; give a file with an audio stream.")
    pieces: list[np.ndarray] = []
    samples, limit = 0, round(max_seconds * rate)
    for piece in _resampled(_frames(container, stream, name), rate):
        pieces.append(_mixed_down(piece))
        samples += pieces[-1].size
        # Codecs pad their last packet, so that a recording of just the limit may come out a little longer.
        if samples > limit + rate // 5:
            raise InputError(f"{name} is longer than {max_seconds:g} s, the limit; cut it into shorter pieces.")
    wave = np.concatenate(pieces)[:limit] if pieces else np.zeros(0, np.float32)
    # Only float PCM may have a scale of its own. Elsewhere 1 is full scale, and far beyond it lies a broken packet.
    return wave if stream.codec_context.name.startswith("pcm_f") else wave.clip(-2.0, 2.0)


def _frames(container: av.container.InputContainer, stream: av.AudioStream, name: str) -> Iterator[av.AudioFrame]:
    broken = packets = 0
    for packet in container.demux(stream):
        packets += 1
        try:
            frames = packet.decode()
        except av.error.FFmpegError:  # one broken packet is a click; many are the wrong file
            broken += 1
        else:
            yield from frames
    if broken * 10 > packets:
        raise InputError(f"{name} is corrupt: {broken} of its {packets} packets cannot be decoded; export it again.")


def _resampled(frames: Iterator[av.AudioFrame], rate: int) -> Iterator[av.AudioFrame]:
    """The sound at `rate` in pieces of half a second, all channels kept; rate and channels may change in mid-file."""
    for _, alike in groupby(frames, lambda frame: (frame.format.name, frame.layout.name, frame.sample_rate)):
        # Mixed down later, not by the resampler: its gain for that depends on the sample format.
        # Packed samples: PyAV reads beyond its table of planes where there are more than eight channels.
        resampler = av.AudioResampler(format="flt", rate=rate, frame_size=rate // 2)
        for frame in chain(alike, [None]):  # None: what the resampler still holds
            yield from resampler.resample(frame)


def _mixed_down(piece: av.AudioFrame) -> np.ndarray:
    """The average of the channels, or one of them where they cancel each other out, as phase-inverted stereo does.

    They cancel where the average keeps less than a tenth of the energy that it has of unrelated channels. That is
    decided for each piece of half a second by itself: a file may be inverted in part, and in half a second unrelated
    channels don't cancel by chance. Taken is the first channel that is about as loud as the loudest, so that all pieces
    take the same one and their polarity doesn't jump.

    Returns:
        float32 [samples].
    """
    packed = piece.to_ndarray().reshape(-1, piece.layout.nb_channels)
    sound = np.nan_to_num(packed.astype(np.float64), nan=0.0, posinf=1.0, neginf=-1.0)
    mix, energies = sound.mean(1), sound.var(0)  # the variance: a constant offset is no sound
    if mix.var() < CANCELLED * energies.sum() / energies.size**2:
        mix = sound[:, np.argmax(energies > energies.max() / 2)]
    return mix.astype(np.float32)
