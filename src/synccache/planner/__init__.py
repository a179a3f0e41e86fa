"""Offline: run a model uncached, watch it, and learn from that what methods need."""

from ..methods.recording import Recording
from .learning import learn_profile
from .recorder import plan_of, record

__all__ = ["Recording", "learn_profile", "plan_of", "record"]
