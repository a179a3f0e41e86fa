"""A few directions among the channels that are forecast, and the rest."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..core.types import Context, Forecaster
from .grouped import Grouped
from .learned import Learned
from .projection import Projection


@dataclass(frozen=True, eq=False)
class Subspace(Learned, Projection):
    """``P F = F V V^T``: group 1 is what lies in the span of the orthonormal columns of V [D, k].

    A value of another width can't be projected and goes with group 0.
    """

    basis: Tensor
    apart = (0, -2)
    _moved: dict[tuple, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def fits(self, value: Tensor, context: Context) -> bool:
        return value.shape[-1:] == self.basis.shape[:1]

    def add_kept(self, result: Tensor, change: Tensor, context: Context) -> None:
        key = (change.device, change.dtype)
        if key not in self._moved:
            self._moved[key] = self.basis.to(change)
        basis = self._moved[key]
        result.add_((change @ basis) @ basis.T)


@dataclass(frozen=True)
class BySubspace(Grouped):
    """``F = F_rest + P (F_principal - F_rest)``."""

    principal: Forecaster
    rest: Forecaster
    split: Subspace

    @property
    def rules(self) -> tuple[Forecaster, ...]:  # type: ignore[override]
        return self.rest, self.principal


def learn_basis(features: Tensor, energy: float = 0.85) -> Tensor:
    """The fewest directions that hold ``energy`` of the features' sum of squares (about zero, as an SVD has it).

    Args:
        features: [..., D], all leading axes taken as rows.
        energy: in (0, 1]; 1 gives every direction, [D, D].

    Returns [D, k] float32 with orthonormal columns, the strongest first.
    """
    parts = (part.double() for part in features.reshape(-1, features.shape[-1]).split(4096))
    values, vectors = torch.linalg.eigh(sum(part.T @ part for part in parts))
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    share = values.cumsum(0) / values.sum().clamp_min(1e-300)
    k = len(values) if energy >= 1 else int((share < energy - 1e-12).sum()) + 1
    return vectors[:, :k].float().contiguous()
