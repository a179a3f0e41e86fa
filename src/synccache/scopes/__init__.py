"""WHERE steps are filled in: one rule per file."""

from .nothing import Nothing
from .segments import Segments, inner_sites
from .whole_stack import WholeStack

__all__ = ["Nothing", "Segments", "WholeStack", "inner_sites"]
