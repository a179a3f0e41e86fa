"""What parts of synccache need beside its own dependencies, and the extra that brings it."""

from __future__ import annotations

from importlib.util import find_spec

from .errors import MissingPackage

# By the name that is imported: the package as people call it, and the extra of ``pip install 'synccache[...]'``.
PACKAGES = {
    "PIL": ("Pillow", "portrait"),
    "av": ("PyAV", "portrait"),
    "cv2": ("opencv", "portrait"),
    "diffusers": ("diffusers", "portrait"),
    "matplotlib": ("matplotlib", "portrait"),
    "pillow_heif": ("pillow-heif", "portrait"),
    "rich": ("rich", "cli"),
    "scipy": ("scipy", "portrait"),
    "skimage": ("scikit-image", "portrait"),
    "typer": ("typer", "cli"),
}


def require(user: str, *modules: str) -> None:
    """Make sure that what ``user`` (in words: "The portrait model") imports is installed.

    Raises:
        MissingPackage: something isn't; says what, and how to install it.
    """
    missing = [module for module in modules if not _is_there(module)]
    if missing:
        names = " and ".join(PACKAGES[module][0] for module in missing)
        extras = ",".join(sorted({PACKAGES[module][1] for module in missing}))
        raise MissingPackage(f"{user} needs {names}: pip install 'synccache[{extras}]'")


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
