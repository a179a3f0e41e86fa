"""Reads a picture as 8-bit RGB."""

from __future__ import annotations

import os
import warnings

import av
import numpy as np
from PIL import Image, ImageOps

from synccache.errors import InputError
from synccache.media.audio import existing_file, open_media

# Formats that Pillow decodes itself; no others, since some (EPS) start another program.
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "JPEG2000", "TGA")


def known_formats() -> list[str]:
    """Names of the formats that this machine's Pillow reads without another program."""
    Image.init()
    return [f for f in FORMATS if f in Image.OPEN]


def load(path: str | os.PathLike[str], max_pixels: float = 100e6) -> np.ndarray:
    """A picture, upright as its EXIF orientation says, transparency on white; of an animation the first frame.

    Args:
        path: PNG, JPEG, WebP, BMP, TIFF, GIF, …; grey, palette, CMYK, 16-bit and transparent ones too.
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
                picture.seek(0)
                return _rgb(ImageOps.exif_transpose(picture))
        except InputError:
            raise
        except Image.DecompressionBombError as error:
            raise InputError(_too_large(name, "far more", max_pixels)) from error
        except Exception as error:  # each decoder has its own way to fail on broken data
            raise InputError(f"{name} {_instead(name, error)}; give a PNG or JPEG picture.") from error


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
            still = container.format.name.endswith("_pipe") or container.format.name in ("image2", "gif", "apng", "tty")
            if container.streams.video and not still:
                return "is a video, not a picture"
            if container.streams.audio and not container.streams.video:
                return "is a sound recording, not a picture"
    except (av.error.FFmpegError, OSError, ValueError):
        pass
    reason = "" if isinstance(error, Image.UnidentifiedImageError) else f" ({error})"
    return f"cannot be read as a picture{reason}: it is corrupt or of an unknown format"
