"""What one uncached run of a model leaves for methods that have something to learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Recording:
    """Features of the deciding branch's T steps, thinned out so that they fit into memory for any model.

    Attributes:
        features: by region id, float32 [T, n, D]: the region's stored value (see ``Region.value``) at n video tokens,
            the same ones on every step, spread evenly.
        outputs: float32 [T, m]: the model's output at m places spread evenly.
        signals: relative L1 changes of the first block's time embedding (or of what the anatomy names), T entries, the
            first one None; empty where the model has none.
        changes: relative L1 changes of the model's output, likewise.
        person: [n] person weight of each recorded token, or None.
        timesteps: T entries.
    """

    features: Mapping[str, Tensor]
    outputs: Tensor
    signals: tuple[float | None, ...]
    changes: tuple[float | None, ...]
    timesteps: tuple[float, ...]
    person: Tensor | None = None

    @property
    def steps(self) -> int:
        return len(self.timesteps)
