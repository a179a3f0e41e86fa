"""Offline: record a run, learn from it what methods need, choose segments and steps."""

from .learning import learn_profile
from .plan import Plan
from .profile import Profile
from .record import record
from .recording import Recording

__all__ = ["Plan", "Profile", "Recording", "learn_profile", "record"]
