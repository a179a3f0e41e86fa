"""One harness for every measurement; each ends in one JSON file, one table and one plot."""

from .run import SUITES, ideal_speedup, run

__all__ = ["SUITES", "ideal_speedup", "run"]
