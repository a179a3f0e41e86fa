"""WHERE steps are filled in: one rule per file."""

from .modules import Modules
from .nothing import Nothing
from .segments import Segments, inner_sites
from .whole_model import WholeModel
from .whole_stack import WholeStack

__all__ = ["Modules", "Nothing", "Segments", "WholeModel", "WholeStack", "inner_sites"]
