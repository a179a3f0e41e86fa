"""HOW the missing value is predicted: weights over anchors, one rule per file."""

from .lagrange import Lagrange
from .person_split import ByPerson, TokenSplit
from .reuse import Reuse

__all__ = ["ByPerson", "Lagrange", "Reuse", "TokenSplit"]
