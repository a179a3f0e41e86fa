"""Reads a picture as 8-bit RGB."""

from __future__ import annotations

import os
import struct
import warnings

import av
import numpy as np
import pillow_heif
from PIL import ExifTags, Image

from synccache.errors import InputError
from synccache.files import existing_file
from synccache.media.audio import open_media

# Formats that Pillow decodes itself; no others, since some (EPS) start another program.
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "HEIF", "JPEG2000", "TGA")
# HEIC and AVIF are containers like MP4, told apart by the brands of a still picture.
BRANDS = ("major_brand", "compatible_brands")
STILLS = ("heic", "heix", "heim", "heis", "mif1", "avif")
# What turns a picture upright, by its EXIF orientation; 1 is upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def known_formats() -> list[str]:
    """Names of the formats that this machine's Pillow reads without another program; HEIF is taught to it first."""
    Image.init()
    pillow_heif.register_heif_opener()
    return [f for f in FORMATS if f in Image.OPEN]


def load(path: str | os.PathLike[str], max_pixels: float = 100e6) -> np.ndarray:
    """A picture, upright as its orientation says, transparency on white.

    Of an animation it is the first frame, of several pictures in one HEIC file the main one.

    Args:
        path: PNG, JPEG, HEIC, WebP, AVIF, BMP, TIFF, GIF, …, told by content, not by name; grey, palette, CMYK,
            16-bit and transparent ones too.
        max_pixels: larger pictures are refused before they are decoded.

    Returns:
        uint8 [H, W, 3].

    Raises:
        InputError: the file is missing, a folder, empty, corrupt, too large, or a video or sound instead.
    """
    name = existing_file(path, "a picture")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd files; its limit on pixels is ours below
        try:
            with Image.open(name, formats=known_formats()) as picture:
                width, height = picture.size
                if width * height > max_pixels:
                    raise InputError(_too_large(name, f"{width}×{height}", max_pixels))
                return _rgb(upright(picture))
        except InputError:
            raise
        except Image.DecompressionBombError as error:
            raise InputError(_too_large(name, "far more", max_pixels)) from error
        except Exception as error:  # each decoder has its own way to fail on broken data
            raise InputError(f"{name} {_instead(name, error)}; give a PNG or JPEG picture.") from error


def upright(picture: Image.Image) -> Image.Image:
    """The picture, turned as its EXIF orientation says; as it is where that is missing, unknown or unreadable.

    `ImageOps.exif_transpose` also writes all other tags anew, and so refuses a photo for one odd tag among them.
    """
    picture.load()  # turns TIFF
    if picture.format == "HEIF":  # turned by its decoder: HEIF has a turn of its own, EXIF only repeats it
        return picture
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation) or _scanned(picture.info.get("exif", b""))
    except Exception:  # broken EXIF beside a sound picture
        return picture
    return picture.transpose(TURNS[orientation]) if orientation in TURNS else picture


def _scanned(exif: bytes) -> int | None:
    """The orientation in a block of EXIF that Pillow stops reading at a tag whose value lies outside of the block."""
    if not exif:
        return None
    tiff = exif.removeprefix(b"Exif\0\0")
    order = "<" if tiff.startswith(b"II") else ">"
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    entries = (struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * i) for i in range(count))
    return next((value for tag, _, _, value in entries if tag == ExifTags.Base.Orientation), None)


def _too_large(name: str, found: str, limit: float) -> str:
    return f"{name} is too large: {found} pixels, where {limit / 1e6:g} million are the limit; scale it down."


def _rgb(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.nan_to_num(np.asarray(picture, np.float64))
        # 16 bits a pixel; float pictures count in 0..1.
        scale = 255.0 if picture.mode == "F" and values.max() <= 1.0 else 255.0 / 65535.0
        if picture.mode == "F" and 1.0 < values.max() <= 255.0:
            scale = 1.0
        grey = np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return np.array(picture.convert("RGB"))


def _instead(name: str, error: Exception) -> str:
    """What the file is, if not a picture."""
    try:
        with open_media(name) as container:
            form, brands = container.format.name, "".join(container.metadata.get(k, "") for k in BRANDS)
            still = form.endswith("_pipe") or form in ("image2", "gif", "apng", "tty")
            if container.streams.video and not still and not any(brand in brands for brand in STILLS):
                return "is a video, not a picture"
            if container.streams.audio and not container.streams.video:
                return "is a sound recording, not a picture"
    except (av.error.FFmpegError, OSError, ValueError):
        pass
    reason = "" if isinstance(error, Image.UnidentifiedImageError) else f" ({' '.join(str(error).split())})"
    return f"cannot be read as a picture{reason}: it is corrupt or of an unknown format"
