"""synccache: faster diffusion-transformer video generation without retraining, with lips still in sync.

>>> import synccache
>>> with synccache.cached(pipe, "synccache", threshold=0.12, mask=person) as handle:
...     video = pipe(image=portrait, audio=speech)
>>> print(handle.trace.summary())
"""

from .api import apply, cached, methods, remove
from .core.anatomy import Anatomy
from .core.method import Method
from .core.notices import Notice
from .errors import Conflict, InputError, SynccacheError, UnsupportedModel
from .handle import Handle
from .planner import learn_profile
from .profiles import Profile
from .trace import Trace

__version__ = "0.1.0"

__all__ = [
    "Anatomy",
    "Conflict",
    "Handle",
    "InputError",
    "Method",
    "Notice",
    "Profile",
    "SynccacheError",
    "Trace",
    "UnsupportedModel",
    "__version__",
    "apply",
    "cached",
    "learn_profile",
    "methods",
    "remove",
]
