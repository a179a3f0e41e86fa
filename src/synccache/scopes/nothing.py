"""No region: every block always runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core.types import Region


@dataclass(frozen=True)
class Nothing:
    """Stores nothing and fills in nothing; for controls."""

    def regions(self, anatomy: Any, start: int, plan: Any = None) -> tuple[Region, ...]:
        return ()
