"""One harness for every measurement; each ends in one JSON file, one table and one plot."""

from .contenders import of_methods
from .overhead import ideal_speedup
from .run import SUITES, run

__all__ = ["SUITES", "ideal_speedup", "of_methods", "run"]
