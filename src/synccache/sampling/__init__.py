"""What is sampled, step by step: a pipeline's schedule cut to fewer steps."""

from .shorten import Fewer, Picked, ShortSchedule

__all__ = ["Fewer", "Picked", "ShortSchedule"]
