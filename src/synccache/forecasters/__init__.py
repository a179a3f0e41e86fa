"""HOW the missing value is predicted: weights over anchors, one rule per file."""

from .alignment import Alignment
from .average import Average, Slopes
from .channels import ByChannel, ChannelMask, learn_channels
from .chebyshev import Chebyshev
from .dmd import Dmd
from .foca import Foca
from .lagrange import Lagrange
from .low_pass import ByFrequency, LowPass
from .person_split import ByPerson, TokenSplit
from .reuse import Reuse
from .rows import Rows, learn_rows
from .series import Hermite, Taylor
from .solvers import POOL, Solver
from .subspace import BySubspace, Subspace, learn_basis

__all__ = [
    "POOL",
    "Alignment",
    "Average",
    "ByChannel",
    "ByFrequency",
    "ByPerson",
    "BySubspace",
    "ChannelMask",
    "Chebyshev",
    "Dmd",
    "Foca",
    "Hermite",
    "Lagrange",
    "LowPass",
    "Reuse",
    "Rows",
    "Slopes",
    "Solver",
    "Subspace",
    "Taylor",
    "TokenSplit",
    "learn_basis",
    "learn_channels",
    "learn_rows",
]
