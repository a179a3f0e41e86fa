"""Speed and memory at the size of the real models, on random weights; never quality.

>>> python -m synccache.bench.fullsize --models wan2.2-s2v-14b --out runs/fullsize
"""

from .run import default_schedule, measure
from .subjects import SCALES, SUBJECTS

__all__ = ["SCALES", "SUBJECTS", "default_schedule", "measure"]
