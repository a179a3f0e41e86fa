"""WHEN a step is computed: one rule per file, and wrappers that adjust a rule.

>>> Warmup(Last(Threshold(0.1)), steps=4)
"""

from .budget import Budget
from .interval import Interval
from .last import Last
from .listed import Listed
from .max_gap import MaxGap
from .never import Never
from .probe import Probe
from .replay import replay, threshold_for
from .threshold import Threshold
from .warmup import Warmup

__all__ = [
    "Budget",
    "Interval",
    "Last",
    "Listed",
    "MaxGap",
    "Never",
    "Probe",
    "Threshold",
    "Warmup",
    "replay",
    "threshold_for",
]
