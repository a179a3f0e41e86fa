from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import wavfile

from synccache.errors import InputError
from synccache.media import image, video


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def test_png_comes_back_exactly(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(tmp_path / "a.png")
    loaded = image.load(tmp_path / "a.png")
    assert loaded.dtype == np.uint8 and np.array_equal(loaded, picture) and loaded.flags.writeable


def test_exif_orientation_is_honoured(tmp_path: Path, picture: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rotated by 90° clockwise
    Image.fromarray(picture).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(image.load(tmp_path / "a.png"), np.rot90(picture, -1))


def test_transparency_lies_on_white(tmp_path: Path, picture: np.ndarray) -> None:
    alpha = np.zeros((20, 30, 1), np.uint8)
    alpha[:, 15:] = 255
    Image.fromarray(np.concatenate([picture, alpha], 2)).save(tmp_path / "a.png")
    loaded = image.load(tmp_path / "a.png")
    assert (loaded[:, :15] == 255).all() and np.array_equal(loaded[:, 15:], picture[:, 15:])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "I;16", "F"])
def test_every_kind_of_picture_becomes_rgb(tmp_path: Path, mode: str) -> None:
    grey = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (16, 1))
    if mode == "I;16":
        made = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode == "F":
        made = Image.fromarray(grey.astype(np.float32) / 255)
    else:
        made = Image.fromarray(np.where(grey > 127, 255, 0).astype(np.uint8) if mode == "1" else grey).convert(mode)
    name = tmp_path / ("a.tiff" if mode in ("F", "CMYK") else "a.png")
    made.save(name)
    loaded = image.load(name)
    assert loaded.shape == (16, 32, 3)
    assert loaded[0, 0].max() < 10 and loaded[0, -1].min() > 245
    if mode != "1":
        assert np.abs(loaded[0, :, 0].astype(int) - grey[0]).max() <= 6


def test_of_an_animation_the_first_frame(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    assert (image.load(tmp_path / "a.gif") == (255, 0, 0)).all()


def test_unusable_files_are_refused_in_one_sentence(tmp_path: Path, picture: np.ndarray) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "noise.png").write_bytes(np.random.default_rng(0).bytes(5000))
    Image.fromarray(np.tile(picture, (10, 10, 1))).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    video.write(tmp_path / "video.mp4", np.zeros((3, 32, 32, 3), np.uint8), 12.5)
    (tmp_path / "video.mp4").rename(tmp_path / "video.png")
    wavfile.write(tmp_path / "sound.jpg", 16_000, np.zeros(8000, np.int16))
    (tmp_path / "script.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    cases = {
        "missing.png": "does not exist",
        "": "is a folder",
        "empty.png": "is empty",
        "noise.png": "cannot be read as a picture",
        "cut.jpg": "cannot be read as a picture",
        "video.png": "is a video",
        "sound.jpg": "is a sound recording",
        "script.png": "cannot be read as a picture",
    }
    for name, words in cases.items():
        with pytest.raises(InputError, match=words) as caught:
            image.load(tmp_path / name)
        assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_size_is_checked_before_decoding(tmp_path: Path) -> None:
    Image.new("1", (30_000, 7000)).save(tmp_path / "bomb.png")  # 210 million pixels in a few kilobytes
    Image.new("1", (12_000, 9000)).save(tmp_path / "huge.png")
    with pytest.raises(InputError, match="too large"):
        image.load(tmp_path / "bomb.png")
    with pytest.raises(InputError, match="12000×9000 pixels, where 100 million"):
        image.load(tmp_path / "huge.png")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["png", "jpg", "gif", "webp", "bmp", "tiff", "heif"]),
    at=st.floats(0, 1),
    data=st.binary(min_size=1, max_size=20),
)
def test_broken_bytes_never_raise_anything_else(tmp_path: Path, kind: str, at: float, data: bytes) -> None:
    path = tmp_path / f"a.{kind}"
    image.known_formats()  # teaches Pillow HEIF
    Image.new("RGB", (16, 16), "green").save(path)
    whole = bytearray(path.read_bytes())
    start = int(at * len(whole))
    whole[start : start + len(data)] = data
    path.write_bytes(whole)
    with contextlib.suppress(InputError):
        assert image.load(path).shape[2] == 3
