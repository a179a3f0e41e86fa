"""WHERE steps are filled in: one rule per file."""

from .block_runs import BlockRuns
from .boundaries import best_path, random_boundaries
from .modules import Modules
from .nothing import Nothing
from .segments import Segments, inner_sites
from .spans import Spans
from .tokens import Tokens
from .whole_model import WholeModel
from .whole_stack import WholeStack

__all__ = [
    "BlockRuns",
    "Modules",
    "Nothing",
    "Segments",
    "Spans",
    "Tokens",
    "WholeModel",
    "WholeStack",
    "best_path",
    "inner_sites",
    "random_boundaries",
]
