"""The photo and the sentence that come with the package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import as_file, files
from pathlib import Path

PHOTO, SPEECH = "astronaut.jpg", "demo.ogg"  # NASA's Eileen Collins, and a sentence made by tools/make_speech.py


@contextmanager
def given_or_bundled(image: Path | None = None, audio: Path | None = None) -> Iterator[tuple[Path, Path]]:
    """Paths of a photo and a recording: the bundled ones where none are given."""
    assets = files("synccache.portrait") / "assets"
    with ExitStack() as stack:
        yield (
            image or stack.enter_context(as_file(assets / PHOTO)),
            audio or stack.enter_context(as_file(assets / SPEECH)),
        )
