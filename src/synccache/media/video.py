"""Writes H.264 with sound, whole or not at all; reads video back."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Colorspace

from synccache.errors import InputError
from synccache.files import check_mp4, existing_file, whole_file


def write(
    path: str | os.PathLike[str],
    frames: np.ndarray | Iterable[np.ndarray],
    fps: float | Fraction,
    audio: tuple[np.ndarray, int] | None = None,
    crf: int = 16,
) -> Path:
    """Writes an MP4: H.264 in 4:2:0 and, with `audio`, AAC; the index first, so that it plays while it loads.

    Args:
        path: where to; an existing file is replaced only once the new one is complete.
        frames: uint8 [T, H, W, 3], or an iterable of uint8 [H, W, 3]. An odd last row or column is doubled.
        fps: frames per second; 12.5 becomes 25/2 exactly.
        audio: float32 [samples] in −1..1 and its rate; cut or filled with silence to the length of the video.
        crf: x264's quality, 0 (best) to 51; 16 is hard to tell from the source.

    Raises:
        InputError: the path cannot be written, there is no frame, or frames differ in size or aren't uint8 RGB.
    """
    target = check_mp4(path)
    with whole_file(target) as temporary:
        encode(temporary, frames, fps, audio, crf)
    return target


def encode(
    path: Path,
    frames: np.ndarray | Iterable[np.ndarray],
    fps: float | Fraction,
    audio: tuple[np.ndarray, int] | None = None,
    crf: int = 16,
) -> None:
    """``write`` into a file that may be left incomplete; arguments as there.

    Raises:
        InputError: there is no frame, or frames differ in size or aren't uint8 RGB.
        OSError: the file cannot be written.
    """
    rate = Fraction(fps).limit_denominator(1001)
    if rate <= 0:
        raise InputError(f"fps must be above 0, but is {fps}.")
    options = {"movflags": "faststart"}
    with av.open(str(path), "w", format="mp4", options=options) as container:
        _encode(container, frames, rate, audio, crf)


def _encode(
    container: av.container.OutputContainer,
    frames: np.ndarray | Iterable[np.ndarray],
    fps: Fraction,
    audio: tuple[np.ndarray, int] | None,
    crf: int,
) -> None:
    picture = container.add_stream("libx264", rate=fps, options={"crf": str(crf), "preset": "medium"})
    picture.pix_fmt = "yuv420p"
    picture.codec_context.time_base = 1 / fps
    sound = container.add_stream("aac", rate=audio[1], layout="mono") if audio else None
    size: tuple[int, ...] | None = None
    count = heard = 0
    for count, frame in enumerate(frames, start=1):
        image = _checked(np.asarray(frame), size)
        if size is None:
            size = image.shape
            picture.height, picture.width = (n + n % 2 for n in size[:2])
            picture.codec_context.colorspace = Colorspace.ITU601
        even = np.pad(image, ((0, size[0] % 2), (0, size[1] % 2), (0, 0)), mode="edge")
        packed = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU601
        )
        packed.pts, packed.time_base = count - 1, 1 / fps
        container.mux(picture.encode(packed))
        if sound is not None and audio is not None:  # in step with the picture, so that the file is interleaved
            upto = round(count * audio[1] / fps)
            _say(container, sound, audio, heard, upto)
            heard = upto
    if size is None:
        raise InputError("There are no frames to write; a video needs at least one.")
    container.mux(picture.encode(None))
    if sound is not None:
        container.mux(sound.encode(None))


def _checked(image: np.ndarray, size: tuple[int, ...] | None) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"A frame must be uint8 [H, W, 3], but one is {image.dtype} {list(image.shape)}.")
    if size is not None and image.shape != size:
        raise InputError(f"All frames must have the size of the first, {size}, but one has {image.shape}.")
    return image


def _say(
    container: av.container.OutputContainer,
    stream: av.AudioStream,
    audio: tuple[np.ndarray, int],
    start: int,
    stop: int,
) -> None:
    piece = np.clip(np.nan_to_num(np.asarray(audio[0][start:stop], np.float32)), -1.0, 1.0)
    piece = np.pad(piece, (0, stop - start - piece.size))
    frame = av.AudioFrame.from_ndarray(piece[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = audio[1], start, Fraction(1, audio[1])
    container.mux(stream.encode(frame))


def read(path: str | os.PathLike[str], max_frames: int = 10_000) -> tuple[np.ndarray, float]:
    """A video's frames, uint8 [T, H, W, 3], and its frames per second.

    Raises:
        InputError: not a readable video, or longer than `max_frames`.
    """
    name = existing_file(path, "a video")
    frames: list[np.ndarray] = []
    try:
        with av.open(name, metadata_errors="ignore") as container:
            if not container.streams.video:
                raise InputError(f"{name} holds no picture; give a video.")
            fps = float(container.streams.video[0].average_rate or 0)
            for frame in container.decode(video=0):
                if len(frames) == max_frames:
                    raise InputError(f"{name} has more than {max_frames} frames, the limit; cut it shorter.")
                frames.append(frame.to_ndarray(format="rgb24"))
    except InputError:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{name} cannot be read as a video ({error}); it is corrupt or of another kind.") from error
    if not frames:
        raise InputError(f"{name} has no frame that can be decoded; give a video.")
    return np.stack(frames), fps
