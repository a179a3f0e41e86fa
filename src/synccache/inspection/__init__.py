"""What a transformer is made of and what a cache on it would hold, from its config alone.

>>> from synccache.inspection import inspect
>>> inspect("wan2.2-s2v-14b").kept_bytes / 2**30
"""

from typing import TYPE_CHECKING

from ..lazily import exports

if TYPE_CHECKING:
    from .inspected import Blocks, Inspection, Segment, inspect
    from .known import MODELS
    from .models import find_model

__all__ = ["MODELS", "Blocks", "Inspection", "Segment", "find_model", "inspect"]

__getattr__, __dir__ = exports(
    __name__,
    {
        **dict.fromkeys(("Blocks", "Inspection", "Segment", "inspect"), "inspected"),
        "MODELS": "known",
        "find_model": "models",
    },
)
