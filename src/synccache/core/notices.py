"""Warnings that a user sees once."""

from __future__ import annotations

import sys
import warnings


class Notice(UserWarning):
    """Something that the user should know; the results stay right."""


class Notices:
    """Says each thing once for as long as a cache is attached."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, topic: str, text: str) -> None:
        if topic not in self._said:
            self._said.add(topic)
            warnings.warn(text, Notice, stacklevel=_callers_level())


def _callers_level() -> int:
    """For ``warnings.warn``: the first frame that is neither this package's nor torch's, so the user's own line."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("synccache", "torch"):
        level, frame = level + 1, frame.f_back
    return level
