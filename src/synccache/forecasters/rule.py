"""What most forecasters have in common."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.types import Gate, Region, Split


class Rule:
    """One group of weights that depend on the times alone; ``anchors`` and ``weights`` are left to say."""

    split: Split | None = None
    gram = False

    def refuses(self, gate: Gate, regions: Sequence[Region]) -> str | None:
        """Why it can't forecast these regions' values beside this gate; None: it can."""
        return None
