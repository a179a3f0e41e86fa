"""Warnings that a user sees once."""

from __future__ import annotations

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
            warnings.warn(text, Notice, stacklevel=4)
