"""Files that are read and written: what is wrong with them is said before the work, and none is left half-written."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import InputError


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


def check_output(path: Path, *sources: str | Path | None) -> None:
    """Refuse a file that can't be written, or that is one of the inputs ``sources``.

    Raises:
        InputError: says which.
    """
    if path.resolve() in {Path(source).resolve() for source in sources if source is not None}:
        raise InputError(f"{path} would be written over, but it is one of the inputs; choose another name.")
    check_writable(path)


def check_new(path: Path, overwrite: bool) -> None:
    """Refuse to replace a file that is there, unless ``overwrite``.

    Raises:
        InputError: the file exists.
    """
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already; add --overwrite to replace it, or choose another name.")


def check_writable(path: str | os.PathLike[str]) -> Path:
    """The path, if a file can be written there; folders that are missing are made when it is.

    Raises:
        InputError: a folder has that name, or nothing may be written there.
    """
    target = Path(path)
    if target.is_dir():
        raise InputError(f"{target} is a folder; give the name of a file in it.")
    folder = next(p for p in (target.parent, *target.parent.parents) if p.exists())
    if not folder.is_dir():
        raise InputError(f"{target} cannot be written: {folder} is a file, not a folder; choose another name.")
    if folder != target.parent and not os.access(folder, os.W_OK):
        raise InputError(f"{target} cannot be written: no folder may be made in {folder}; choose another one.")
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f"..{target.stem}-12345678-", suffix=target.suffix):
            pass
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error.strerror}); choose another name or folder.") from error
    return target


def check_mp4(path: str | os.PathLike[str]) -> Path:
    """``check_writable`` for a video, whose name must end in .mp4.

    Raises:
        InputError: says what is wrong.
    """
    target = Path(path)
    if target.suffix.lower() != ".mp4":
        raise InputError(f"{target} must end in .mp4, since video is written as MP4, but ends in {target.suffix!r}.")
    return check_writable(target)


@contextlib.contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` that takes its place at the end, or vanishes if anything is raised.

    Raises:
        InputError: it could not be written; see ``writing``.
    """
    missing = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(suffix=target.suffix, prefix=f".{target.stem}-", dir=target.parent)
        os.close(descriptor)
        temporary = Path(name)
        try:
            yield temporary
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(0o666 & ~mask)  # mkstemp lets the owner alone read it
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
            for folder in missing:
                with contextlib.suppress(OSError):  # holds the file, or others
                    folder.rmdir()


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """Inside, what goes wrong on the disk is said of ``target``, whichever temporary file it happened to.

    Raises:
        InputError: the disk is full, a limit on the size of files was reached, or something else on the disk failed.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{target} cannot be written ({reason}); free some space or choose another folder.") from error
