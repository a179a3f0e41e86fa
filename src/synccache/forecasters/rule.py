"""What most forecasters have in common."""

from __future__ import annotations

from ..engine.types import Split


class Rule:
    """One group of weights that depend on the times alone; ``anchors`` and ``weights`` are left to say."""

    split: Split | None = None
    gram = False
