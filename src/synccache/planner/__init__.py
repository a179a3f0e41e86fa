"""Offline: record or profile a run (``planner.profile``), choose segments, learn what methods need, tune to targets."""

from .learned import Profile, learn_profile
from .plan import Plan
from .record import record
from .recording import Recording

__all__ = ["Plan", "Profile", "Recording", "learn_profile", "record"]
