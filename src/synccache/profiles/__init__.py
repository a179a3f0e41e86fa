"""Profiles: what methods learnt about a model; their files, and which one a method uses."""

from .build import Built, build
from .identity import weights_of
from .plan import Plan
from .profile import Profile
from .saving import load_settings, save_settings
from .shipped import profile_name, shipped_file, shipped_profile

__all__ = [
    "Built",
    "Plan",
    "Profile",
    "build",
    "load_settings",
    "profile_name",
    "save_settings",
    "shipped_file",
    "shipped_profile",
    "weights_of",
]
