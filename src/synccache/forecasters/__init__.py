"""HOW the missing value is predicted: weights over anchors, one rule per file."""

from .foca import Foca
from .lagrange import Lagrange
from .person_split import ByPerson, TokenSplit
from .reuse import Reuse
from .series import Hermite, Taylor

__all__ = ["ByPerson", "Foca", "Hermite", "Lagrange", "Reuse", "Taylor", "TokenSplit"]
