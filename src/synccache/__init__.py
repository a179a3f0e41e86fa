"""synccache: faster diffusion-transformer video generation without retraining, with lips still in sync.

>>> import synccache
>>> with synccache.cached(pipe, "synccache", threshold=0.12, mask=person) as handle:
...     video = pipe(image=portrait, audio=speech)
>>> print(handle.trace.summary())
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .lazily import exports

if TYPE_CHECKING:
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

__getattr__, __dir__ = exports(
    __name__,
    {
        **dict.fromkeys(("apply", "cached", "methods", "remove"), "api"),
        **dict.fromkeys(("Conflict", "InputError", "SynccacheError", "UnsupportedModel"), "errors"),
        "Anatomy": "core.anatomy",
        "Handle": "handle",
        "Method": "core.method",
        "Notice": "core.notices",
        "Profile": "profiles",
        "Trace": "trace",
        "learn_profile": "planner",
    },
)


class _Package(ModuleType):
    """Has the function ``methods`` under that name, also once the package ``synccache.methods`` is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name == "methods" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
