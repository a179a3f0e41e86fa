"""WHEN a step is computed: one rule per file, and wrappers that adjust a rule.

>>> Warmup(Last(Threshold(0.1)), steps=4)
"""

from .allocation import Allocation
from .budget import Budget
from .first_block import FirstBlock
from .growing import Growing
from .interval import Interval
from .last import Last
from .listed import Listed
from .magnitude import Magnitudes
from .max_gap import MaxGap
from .max_skips import MaxSkips
from .never import Never
from .output_change import OutputChange
from .probe import Probe
from .refresh import Refresh
from .replay import replay, threshold_for
from .residual import Residual
from .scheduled import Blind
from .signal import Signal
from .threshold import Threshold
from .trajectory import Trajectory
from .turn import Turn
from .warmup import Warmup

__all__ = [
    "Allocation",
    "Blind",
    "Budget",
    "FirstBlock",
    "Growing",
    "Interval",
    "Last",
    "Listed",
    "Magnitudes",
    "MaxGap",
    "MaxSkips",
    "Never",
    "OutputChange",
    "Probe",
    "Refresh",
    "Residual",
    "Signal",
    "Threshold",
    "Trajectory",
    "Turn",
    "Warmup",
    "replay",
    "threshold_for",
]
