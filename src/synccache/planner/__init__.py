"""Offline: profile a run (``planner.profile``), choose segments, tune to a target."""

from .boundaries import best_path, random_boundaries
from .plan import Plan

__all__ = ["Plan", "best_path", "random_boundaries"]
