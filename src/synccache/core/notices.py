"""Warnings that a user sees once."""

from __future__ import annotations

import sys
import warnings

# What may stand between the user's line and ours.
BETWEEN = ("synccache", "torch", "diffusers", "accelerate", "peft", "transformers", "contextlib", "functools")


class Notice(UserWarning):
    """Something that the user should know; the results stay right."""


class Notices:
    """Says each thing once for as long as a cache is attached."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, topic: str, text: str | None) -> None:
        """Say ``text``, if there is something to say and nothing was said on the topic yet."""
        if text is not None and topic not in self._said:
            self._said.add(topic)
            notice(text)


def notice(text: str, category: type[Warning] = Notice) -> None:
    """Warn, and point to the user's own line: the first frame outside this package and the libraries around it."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in BETWEEN:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)
