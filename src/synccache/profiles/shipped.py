"""The profiles that the package has of its own models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..core.anatomy import Anatomy
from .profile import Profile


def profile_name(method: str) -> str:
    """Name of the file with a method's profile, in the folder of those that are shipped for a model."""
    return f"profile-{method}.safetensors"


def shipped_file(method: str, anatomy: Anatomy) -> Path | None:
    """The file with the profile of ``method`` that the package has for models like this one, if any."""
    path = None if anatomy.shipped is None else anatomy.shipped / profile_name(method)
    return path if path is not None and path.is_file() else None


def shipped_profile(method: str, anatomy: Anatomy, scheduler: str | None = None) -> Profile | None:
    """The profile of ``method`` that the package has for these very weights and this scheduler's class, if any."""
    path = shipped_file(method, anatomy)
    if path is None:
        return None
    profile = Profile.load(path, method)
    return replace(profile, shipped=True) if profile.fits(anatomy, scheduler) else None
