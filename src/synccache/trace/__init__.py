"""What was decided, call by call: the trace, and its picture."""

from .records import Record, Trace

__all__ = ["Record", "Trace"]
