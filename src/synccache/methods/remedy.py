"""What to tell a user who needs a profile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError


class ProfileNeeded(InputError):
    """A profile is missing, damaged, or made for something else; the message ends with how to make one.

    Attributes:
        methods: who can learn the profile that is needed.
        settings: what to learn it with.
    """

    def __init__(self, problem: str, *methods: str, settings: Mapping[str, Any] | None = None) -> None:
        self.methods, self.settings = methods, dict(settings or {})
        told = " ".join(remedy(name, self.settings) for name in methods) or remedy()
        super().__init__(f"{problem} {told}")


def remedy(method: str | None = None, settings: Mapping[str, Any] | None = None) -> str:
    """The sentence that says how a profile of ``method`` is made.

    >>> remedy("magcache", {"decoupled": True})
    "Make one with synccache.learn_profile(pipe, 'magcache', lambda: pipe(...), decoupled=True)."
    """
    more = "".join(f", {name}={value!r}" for name, value in (settings or {}).items())
    who = "method" if method is None else repr(method)
    return f"Make one with synccache.learn_profile(pipe, {who}, lambda: pipe(...){more})."
