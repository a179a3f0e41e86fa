"""Names of a package that are imported when somebody first asks for them, since torch takes seconds to import."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any


def exports(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's ``__getattr__`` and ``__dir__`` (PEP 562); modules of the package are found besides.

    Args:
        package: its ``__name__``.
        modules: each exported name, and the module below the package that has it.

    Example:
        >>> __getattr__, __dir__ = exports(__name__, {"animate": "job", "Request": "request"})
    """

    def get(name: str) -> Any:
        if name not in modules:
            if not name.startswith("_") and find_spec(f"{package}.{name}") is not None:
                return import_module(f"{package}.{name}")
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{modules[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted({*vars(sys.modules[package]), *modules})
