"""Offline: record or profile a run (``planner.profile``), choose segments, learn what methods need, tune to targets."""

from .boundaries import best_path, random_boundaries
from .learned import Profile, learn_profile
from .plan import Plan
from .record import record
from .recording import Recording

__all__ = ["Plan", "Profile", "Recording", "best_path", "learn_profile", "random_boundaries", "record"]
