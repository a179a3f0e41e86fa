"""Reads the sound of any file that PyAV can open, as mono float32 at one rate."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import av
import numpy as np

from synccache.errors import InputError

SHORTEST = 0.1
LONGEST = 600.0


def load(
    path: str | os.PathLike[str], rate: int = 16_000, max_seconds: float = LONGEST, min_seconds: float = SHORTEST
) -> np.ndarray:
    """The first audio stream of a file; several channels are averaged.

    Args:
        path: any container that PyAV reads (wav, mp3, ogg, flac, m4a, mp4, …), any rate, any number of channels.
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
    wave = np.nan_to_num(wave, nan=0.0, posinf=1.0, neginf=-1.0)
    peak = float(np.abs(wave).max())
    return wave / np.float32(peak) if peak > 1.0 else wave


def existing_file(path: str | os.PathLike[str], wanted: str) -> str:
    """The path as text, once it is sure that a non-empty, readable file lies there; `wanted` is "an audio file", say.

    Raises:
        InputError: nothing is there, or a folder, an empty file, or one that may not be read.
    """
    name = os.fspath(path)
    file = Path(name)
    if "\0" in name or not file.exists():
        raise InputError(f"{name!r} does not exist; give the path of {wanted}.")
    if file.is_dir():
        raise InputError(f"{name} is a folder; give the path of {wanted}.")
    if not file.is_file():
        raise InputError(f"{name} is a pipe or a device; save what comes from it, and give the path of {wanted}.")
    if file.stat().st_size == 0:
        raise InputError(f"{name} is empty (0 bytes); give {wanted} with something in it.")
    if not os.access(name, os.R_OK):
        raise InputError(f"{name} may not be read by this user; change its permissions.")
    return name


def open_media(name: str) -> Any:
    """Open a local file for reading; a colon in its name starts no protocol."""
    return av.open(f"file:{name}", metadata_errors="ignore")


def _mixed_down(piece: av.AudioFrame) -> np.ndarray:
    return piece.to_ndarray().reshape(-1, piece.layout.nb_channels).mean(1)


def _decode(container: av.container.InputContainer, rate: int, max_seconds: float, name: str) -> np.ndarray:
    stream = next((s for s in container.streams.audio if s.codec_context is not None), None)
    if stream is None:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise InputError(f"{name} has no sound that can be decoded, only {kinds}; give a file with an audio stream.")
    # Mixed down below, not by the resampler: its gain for that depends on the sample format.
    # Packed samples: PyAV reads beyond its table of planes where there are more than eight channels.
    resampler = av.AudioResampler(format="flt", rate=rate)
    pieces: list[np.ndarray] = []
    samples, limit, broken, packets = 0, round(max_seconds * rate), 0, 0
    for packet in container.demux(stream):
        packets += 1
        try:
            frames: list[av.AudioFrame | None] = list(packet.decode())
        except av.error.InvalidDataError:  # one broken packet is a click; many are the wrong file
            broken += 1
            continue
        if packet.size == 0 and pieces:  # the packet that ends the stream; flush the resampler too
            frames.append(None)
        for frame in frames:
            pieces += [_mixed_down(piece) for piece in resampler.resample(frame)]
            samples += pieces[-1].size if pieces and frame is not None else 0
        # Codecs pad their last packet, so that a recording of just the limit may come out a little longer.
        if samples > limit + rate // 5:
            raise InputError(f"{name} is longer than {max_seconds:g} s, the limit; cut it into shorter pieces.")
    if broken * 10 > packets:
        raise InputError(f"{name} is corrupt: {broken} of its {packets} packets cannot be decoded; export it again.")
    return np.concatenate(pieces)[:limit].astype(np.float32) if pieces else np.zeros(0, np.float32)
