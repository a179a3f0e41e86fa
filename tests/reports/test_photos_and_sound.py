"""Photos and sound as phones make them: HEIC, odd EXIF, sound that changes in mid-file, channels that cancel."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import numpy as np
import pillow_heif
import pytest
from PIL import Image
from scipy.io import wavfile

from synccache.errors import InputError
from synccache.media import audio, image

# ---------------------------------------------------------------------------------------------------------- photos

COLOURS = {"r": (255, 0, 0), "g": (0, 255, 0), "w": (255, 255, 255), "b": (0, 0, 255)}
# Corners clockwise from the top left, as a photo stored with "rgwb" is shown at each EXIF orientation.
SHOWN = {1: "rgwb", 2: "grbw", 3: "wbrg", 4: "bwgr", 5: "rbwg", 6: "brgw", 7: "wgrb", 8: "gwbr"}
WIDTH, HEIGHT = 96, 64


def photo() -> Image.Image:
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for colour, (y, x) in zip("rgwb", [(0, 0), (0, 48), (32, 48), (32, 0)], strict=True):
        picture[y : y + 32, x : x + 48] = COLOURS[colour]
    return Image.fromarray(picture)


def corners(picture: np.ndarray) -> str:
    """Which colour lies in each corner, clockwise from the top left; "?" for none of the four."""
    found = [picture[8, 8], picture[8, -8], picture[-8, -8], picture[-8, 8]]
    near = [
        [c for c, rgb in COLOURS.items() if np.abs(np.subtract(rgb, pixel, dtype=int)).max() < 60] for pixel in found
    ]
    return "".join(colour[0] if colour else "?" for colour in near)


def exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    """A block of EXIF from (tag, type, count, value) each, in the order given; long values follow the entries."""
    head, data = b"II*\0" + struct.pack("<IH", 8, len(entries)), b""
    after = 8 + 2 + 12 * len(entries) + 4
    for tag, kind, count, value in entries:
        field = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", after + len(data))
        head, data = head + struct.pack("<HHI", tag, kind, count) + field, data + (value if len(value) > 4 else b"")
    return b"Exif\0\0" + head + bytes(4) + data


def heic(picture: Image.Image, path: Path, **more: bytes) -> None:
    pillow_heif.from_pillow(picture).save(path, quality=95, **more)


def orientation(value: int) -> tuple[int, int, int, bytes]:
    return (0x112, 3, 1, struct.pack("<H", value))


@pytest.mark.parametrize("name", ["IMG_0001.HEIC", "shared.jpg", "a.heif"])
@pytest.mark.parametrize("turn", SHOWN)
def test_heic_is_read_by_content_and_turned_once(tmp_path: Path, name: str, turn: int) -> None:
    heic(photo(), tmp_path / name, exif=exif(orientation(turn)))
    loaded = image.load(tmp_path / name)
    assert loaded.dtype == np.uint8
    assert loaded.shape == ((HEIGHT, WIDTH, 3) if turn < 5 else (WIDTH, HEIGHT, 3))
    assert corners(loaded) == SHOWN[turn]


def test_a_note_beside_heic_turns_nothing_a_second_time(tmp_path: Path) -> None:
    # pillow-heif turns the picture, then erases such a note, but misses this one for its space; Pillow finds it.
    heic(photo(), tmp_path / "a.heic", xmp=b"<tiff:Orientation>6 </tiff:Orientation>")
    assert corners(image.load(tmp_path / "a.heic")) == SHOWN[6]


def test_of_several_pictures_in_one_heic_the_main_one(tmp_path: Path) -> None:
    several = pillow_heif.from_pillow(Image.new("RGB", (32, 32), "black"))
    several.add_from_pillow(photo())
    several.save(tmp_path / "a.heic", quality=95, primary_index=1)
    assert corners(image.load(tmp_path / "a.heic")) == "rgwb"


def test_heic_with_transparency_lies_on_white(tmp_path: Path) -> None:
    clear = photo().convert("RGBA")
    clear.paste((0, 0, 0, 0), (0, 0, 48, 32))
    heic(clear, tmp_path / "a.heic")
    assert corners(image.load(tmp_path / "a.heic")) == "wgwb"


@pytest.mark.parametrize("mode", ["RGB;16", "L"])
def test_heic_of_ten_bits_and_grey(tmp_path: Path, mode: str) -> None:
    shape, value = ((64, 64, 3), np.uint16(0x8000)) if mode == "RGB;16" else ((64, 64), np.uint8(0x80))
    pillow_heif.from_bytes(mode, (64, 64), np.full(shape, value).tobytes()).save(tmp_path / "a.heic", quality=95)
    loaded = image.load(tmp_path / "a.heic")
    assert loaded.shape == (64, 64, 3) and np.abs(loaded.astype(int) - 128).max() <= 2


@pytest.mark.parametrize("kind", ["heic", "avif"])
def test_a_picture_cut_short_is_refused_and_not_called_a_video(tmp_path: Path, kind: str) -> None:
    if kind == "avif" and "AVIF" not in image.known_formats():
        pytest.skip("this Pillow has no AVIF")
    heic(photo(), tmp_path / "a") if kind == "heic" else photo().save(tmp_path / "a", kind)
    whole = (tmp_path / "a").read_bytes()
    for share in (0.98, 0.7, 0.3, 0.05):
        (tmp_path / "cut.jpg").write_bytes(whole[: round(len(whole) * share)])
        with pytest.raises(InputError, match=r"cut\.jpg cannot be read as a picture.*corrupt.*give a PNG") as caught:
            image.load(tmp_path / "cut.jpg")
        assert "\n" not in str(caught.value)


def test_the_size_of_heic_is_checked_before_it_is_decoded(tmp_path: Path) -> None:
    heic(photo(), tmp_path / "a.heic")
    data = (tmp_path / "a.heic").read_bytes()
    size = b"ispe" + bytes(4) + struct.pack(">II", WIDTH, HEIGHT)
    assert size in data
    (tmp_path / "a.heic").write_bytes(data.replace(size, size[:8] + struct.pack(">II", 12_000, 9000)))
    with pytest.raises(InputError, match="12000×9000 pixels, where 100 million"):
        image.load(tmp_path / "a.heic")


def test_avif_is_turned_once(tmp_path: Path) -> None:
    if "AVIF" not in image.known_formats():
        pytest.skip("this Pillow has no AVIF")
    photo().save(tmp_path / "a.jpg", "AVIF", quality=95, exif=exif(orientation(6)))
    assert corners(image.load(tmp_path / "a.jpg")) == SHOWN[6]


ODD = {
    "rational -1/0": (0x11A, 10, 1, struct.pack("<ii", -1, 0)),
    "negative width": (0x100, 9, 1, struct.pack("<i", -5)),
    "width of type undefined": (0x100, 7, 1, b"\5"),
    "maker's name beyond the end": (0x10F, 2, 20, struct.pack("<I", 70_000)),
    "two thousand million values": (0x102, 12, 2**31, struct.pack("<I", 8)),
    "unknown type": (0x10E, 99, 3, b"abc"),
    "EXIF that points to its own start": (0x8769, 4, 1, struct.pack("<I", 8)),
    "text for a number": (0x128, 2, 4, b"abc\0"),
}


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
@pytest.mark.parametrize("odd", ODD)
def test_an_odd_tag_neither_refuses_the_photo_nor_hides_its_orientation(tmp_path: Path, odd: str, kind: str) -> None:
    for number, entries in enumerate([(orientation(6), ODD[odd]), (ODD[odd], orientation(6))]):
        path = tmp_path / f"{number}.{kind}"
        photo().save(path, quality=95, exif=exif(*entries))
        assert corners(image.load(path)) == SHOWN[6]


@pytest.mark.parametrize(
    "block",
    [
        exif(orientation(0)),
        exif(orientation(9)),
        exif((0x112, 2, 4, b"six\0")),
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0?",
    ],
)
def test_an_unknown_orientation_or_broken_exif_turns_nothing(tmp_path: Path, block: bytes) -> None:
    photo().save(tmp_path / "a.jpg", quality=95, exif=block)
    assert corners(image.load(tmp_path / "a.jpg")) == "rgwb"


# ----------------------------------------------------------------------------------------------------------- sound

LEVEL = 0.3 / np.sqrt(2)  # the level of every tone below


def tone(rate: int, seconds: float, hertz: float = 300.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def coded(wave: np.ndarray, rate: int, kind: str = "mp3", codec: str | None = None) -> bytes:
    """A whole file with the wave [channels, samples], as its bytes."""
    sink = io.BytesIO()
    layout = "mono" if len(wave) == 1 else "stereo"
    with av.open(sink, "w", format=kind) as container:
        stream = container.add_stream(codec or kind, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave), "fltp", layout)
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.format.name, layout, rate, frame_size=1152 if kind == "mp3" else 1024)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return sink.getvalue()


def level(wave: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))


def pitch(wave: np.ndarray) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(wave * np.hanning(wave.size)))) * 16_000 / wave.size)


@pytest.mark.parametrize("kind", ["mp3", "adts"])
@pytest.mark.parametrize(
    "parts",
    [
        [(44_100, 2), (48_000, 2)],
        [(48_000, 1), (16_000, 1), (48_000, 1)],
        [(44_100, 1), (44_100, 2), (44_100, 1)],
        [(22_050, 2), (48_000, 1)],
        [(44_100, 2), (44_100, 2)],
    ],
    ids=["rate up", "rate down and up", "mono, stereo, mono", "both", "neither"],
)
def test_sound_that_changes_in_mid_file_is_read_whole(tmp_path: Path, parts: list[tuple[int, int]], kind: str) -> None:
    joined = b""
    for number, (rate, channels) in enumerate(parts):
        joined += coded(
            np.repeat(tone(rate, 2.0, 300 + 200 * number)[None], channels, 0), rate, kind, {"adts": "aac"}.get(kind)
        )
    (tmp_path / "a").write_bytes(joined)
    loaded = audio.load(tmp_path / "a")
    assert loaded.size / 16_000 == pytest.approx(2.0 * len(parts), abs=0.15 * len(parts))
    for number in range(len(parts)):
        middle = loaded[16_000 * (2 * number + 1) - 4000 :][:12_000]
        assert level(middle) == pytest.approx(LEVEL, rel=0.08)  # LAME scales by 0.95
        assert pitch(middle) == pytest.approx(300 + 200 * number, abs=3)


def test_the_limit_on_length_counts_all_parts(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(coded(tone(44_100, 1.0)[None], 44_100) + coded(tone(48_000, 1.0)[None], 48_000))
    with pytest.raises(InputError, match=r"longer than 1\.5 s, the limit"):
        audio.load(tmp_path / "a.mp3", max_seconds=1.5)


@pytest.mark.parametrize(
    ("gains", "loudest"),
    [
        ((1, -1), 1),
        ((-1, 1), 1),
        ((0.9, -1), 1),
        ((1, -0.8), 1),
        ((1, -1, 0), 1),
        ((0, 0, 0, 1, -1, 0), 1),
        ((0.5, 0.5, -1), 1),
    ],
)
def test_channels_that_cancel_are_heard_at_their_level(
    tmp_path: Path, gains: tuple[float, ...], loudest: float
) -> None:
    wave = tone(44_100, 2.0)[:, None] * np.float32(gains)
    wavfile.write(tmp_path / "a.wav", 44_100, wave + np.float32(0.1))  # a constant offset hides no silence
    assert level(audio.load(tmp_path / "a.wav") - 0.1) == pytest.approx(LEVEL * loudest, rel=0.11)


def test_inverted_stereo_survives_a_lossy_codec(tmp_path: Path) -> None:
    wave = tone(44_100, 3.0)
    (tmp_path / "a.mp3").write_bytes(coded(np.stack([wave, -wave]), 44_100))
    assert level(audio.load(tmp_path / "a.mp3")[1600:-3200]) == pytest.approx(LEVEL, rel=0.08)


@pytest.mark.parametrize(
    ("gains", "mean"), [((1, 1), 1), ((1, 0), 0.5), ((1, -0.3), 0.35), ((1, 0, 0, 0, 0, 0), 1 / 6)]
)
def test_other_channels_are_averaged(tmp_path: Path, gains: tuple[float, ...], mean: float) -> None:
    wavfile.write(tmp_path / "a.wav", 16_000, tone(16_000, 1.2)[:, None] * np.float32(gains))
    assert np.allclose(audio.load(tmp_path / "a.wav"), mean * tone(16_000, 1.2), atol=1e-6)


def test_unrelated_channels_are_averaged(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (160_000, 2)).astype(np.float32)
    wavfile.write(tmp_path / "a.wav", 16_000, noise)
    assert np.allclose(audio.load(tmp_path / "a.wav"), noise.mean(1), atol=1e-6)


def test_a_file_that_is_inverted_in_part_is_heard_throughout_and_keeps_its_polarity(tmp_path: Path) -> None:
    wave, noise = tone(16_000, 4.0), np.random.default_rng(0).normal(0, 0.003, (64_000, 2))
    right = np.concatenate([wave[:32_000], -wave[32_000:]])
    wavfile.write(tmp_path / "a.wav", 16_000, (np.stack([wave, right], 1) + noise).astype(np.float32))
    loaded = audio.load(tmp_path / "a.wav")
    for start in range(0, 64_000, 4000):
        piece = slice(start, start + 4000)
        assert level(loaded[piece]) == pytest.approx(LEVEL, rel=0.05)
        assert np.corrcoef(loaded[piece], wave[piece])[0, 1] > 0.99


@pytest.mark.parametrize(("kind", "codec"), [("adts", "aac"), ("ipod", "alac")])
def test_sound_after_a_broken_packet_is_read(tmp_path: Path, kind: str, codec: str) -> None:
    data = bytearray(coded(tone(44_100, 6.0)[None], 44_100, kind, codec))
    with av.open(io.BytesIO(data)) as container:
        at = [packet.pos for packet in container.demux(audio=0) if packet.size][30]
    assert at is not None
    # AAC loses its place; ALAC's packet begins with a kind of element that FFmpeg doesn't know.
    data[at : at + 600] = bytes(600) if codec == "aac" else b"\x40" * 600
    (tmp_path / "a").write_bytes(data)
    loaded = audio.load(tmp_path / "a")
    assert 5.5 < loaded.size / 16_000 < 6.2
    assert level(loaded[-24_000:-8000]) == pytest.approx(LEVEL, rel=0.05)


def test_a_packet_far_beyond_full_scale_does_not_silence_the_rest(tmp_path: Path) -> None:
    wave = tone(44_100, 4.0)
    wave[88_200:90_000] *= 300  # as a damaged packet comes out of a decoder
    (tmp_path / "a.aac").write_bytes(coded(wave[None], 44_100, "adts", "aac"))
    loaded = audio.load(tmp_path / "a.aac")
    assert np.abs(loaded).max() <= 1.0
    assert level(loaded[1600:24_000]) >= 0.45 * LEVEL


def test_float_pcm_may_have_a_scale_of_its_own(tmp_path: Path) -> None:
    wave = tone(16_000, 1.0)
    wavfile.write(tmp_path / "a.wav", 16_000, wave * 32_768)
    assert np.allclose(audio.load(tmp_path / "a.wav"), wave / np.abs(wave).max(), atol=1e-5)
