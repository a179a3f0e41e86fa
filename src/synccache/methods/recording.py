"""What an uncached run of a model leaves behind for methods that learn from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Recording:
    """Samples of the deciding branch's T steps; few enough that they fit into memory for any model.

    Attributes:
        features: float32 [T, n, D] by region id: the region's stored value (see ``Region.value``) at n video tokens,
            evenly spread and the same on every step.
        outputs: float32 [T, m]: the model's output at m places, evenly spread.
        signals: T relative L1 changes of the first block's time embedding (or of what the anatomy names), the first
            one None; empty where the model has no such signal.
        changes: T relative L1 changes of the model's output, the first one None.
        person: [n] person weight of each sampled token, or None.
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
