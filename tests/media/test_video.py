from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synccache.errors import InputError
from synccache.files import check_mp4
from synccache.media import audio, compose, video
from synccache.metrics.fidelity import psnr


def clip(frames: int = 25, height: int = 64, width: int = 64) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    moving = [np.stack([x * 255 // width, y * 255 // height, (x + y + 4 * t) % 256 // 2], -1) for t in range(frames)]
    return np.stack(moving).astype(np.uint8)


def test_round_trip_with_sound(tmp_path: Path) -> None:
    frames = clip()
    wave = (0.4 * np.sin(np.arange(32_000) / 10)).astype(np.float32)
    path = video.write(tmp_path / "a.mp4", frames, 12.5, (wave, 16_000))
    back, fps = video.read(path)
    assert fps == 12.5 and back.shape == frames.shape
    assert psnr(back / 255.0, frames / 255.0) > 32.0
    assert np.abs(back.mean((0, 1, 2)) - frames.mean((0, 1, 2))).max() < 2.0  # no shift of colours
    with av.open(str(path)) as container:
        picture, sound = container.streams.video[0], container.streams.audio[0]
        assert (picture.codec_context.name, picture.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert picture.average_rate == Fraction(25, 2) and sound.codec_context.name == "aac"
        assert float(picture.duration * picture.time_base) == pytest.approx(2.0)
        assert float(sound.duration * sound.time_base) == pytest.approx(2.0, abs=0.07)
    heard = audio.load(path)
    shift = np.argmax(np.correlate(heard[4000:8000], wave[4500:7500], "valid")) - 500
    assert abs(shift) < 400 and np.abs(heard).max() == pytest.approx(0.4, abs=0.05)
    assert path.read_bytes().index(b"moov") < path.read_bytes().index(b"mdat")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    frames=st.integers(1, 9),
    height=st.integers(16, 70),
    width=st.integers(16, 70),
    samples=st.integers(0, 40_000),
    rate=st.sampled_from([16_000, 22_050, 48_000]),
    fps=st.sampled_from([12.5, 25, Fraction(30000, 1001), 24]),
)
def test_any_size_and_length(
    tmp_path: Path, frames: int, height: int, width: int, samples: int, rate: int, fps: float
) -> None:
    wave = np.full(samples, 0.1, np.float32)
    path = video.write(tmp_path / "a.mp4", iter(clip(frames, height, width)), fps, (wave, rate))
    back, found = video.read(path)
    assert back.shape == (frames, height + height % 2, width + width % 2, 3)
    assert found == pytest.approx(float(fps))
    with av.open(str(path)) as container:
        sound = container.streams.audio[0]
        assert float(sound.duration * sound.time_base) == pytest.approx(frames / float(fps), abs=1100 / rate)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_and_the_old_file_stays(tmp_path: Path, error: type[BaseException]) -> None:
    def breaking() -> Iterator[np.ndarray]:
        yield from clip(3)
        raise error

    path = tmp_path / "a.mp4"
    path.write_bytes(b"the old one")
    with pytest.raises(error):
        video.write(path, breaking(), 12.5)
    assert path.read_bytes() == b"the old one" and list(tmp_path.iterdir()) == [path]


def test_unusable_targets_are_refused_early(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").touch()
    for name, words in {
        "a.avi": r"must end in \.mp4",
        "folder.mp4": "is a folder",
        "file/a.mp4": "is a file, not a folder",
    }.items():
        with pytest.raises(InputError, match=words):
            check_mp4(tmp_path / name)
    for name in ("ok.MP4", "new/folders/ok.mp4"):
        assert check_mp4(tmp_path / name) == tmp_path / name
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.mp4"]


def test_unwritable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        check_mp4(tmp_path / "a.mp4")


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([], "no frames"),
        (np.zeros((2, 16, 16, 3), np.float32), "must be uint8"),
        ([np.zeros((16, 16, 3), np.uint8), np.zeros((16, 18, 3), np.uint8)], "the size of the first"),
    ],
)
def test_wrong_frames(tmp_path: Path, frames: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        video.write(tmp_path / "a.mp4", frames, 12.5)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_reading_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"not a video" * 100)
    with pytest.raises(InputError, match="cannot be read as a video"):
        video.read(tmp_path / "a.mp4")
    video.write(tmp_path / "b.mp4", clip(5), 12.5)
    with pytest.raises(InputError, match="more than 4 frames"):
        video.read(tmp_path / "b.mp4", max_frames=4)


def test_side_by_side() -> None:
    left, right = np.full((4, 40, 40, 3), 10, np.uint8), np.full((6, 80, 60, 3), 200, np.uint8)
    both = compose.side_by_side([left, right], ["uncached", "3.0×"])
    assert both.dtype == np.uint8 and both.shape[0] == 6 and both.shape[1] % 2 == both.shape[2] % 2 == 0
    bar = round(80 * 0.12) if 80 * 0.12 > 14 else 14
    assert (both[5, bar : bar + 80, :80] == 10).all()  # scaled to one height, held to the end
    assert (both[:, bar : bar + 80, 84:144] == 200).all()
    assert (both[0, :bar, :80] < 100).any() and (both[0, :bar, 84:144] < 100).any()  # both captions are drawn
    with pytest.raises(InputError, match="Every clip needs a label"):
        compose.side_by_side([left], [])
