"""Dynamic mode decomposition of the newest anchors, from their inner products alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.types import Context
from ..errors import InputError
from .reuse import Reuse
from .rule import Rule
from .series import Taylor


@dataclass(frozen=True)
class Dmd(Rule):
    """Fits ``F_{i+1} = A F_i`` to the anchors and continues by A's eigenvalues: ``F = Re sum_m phi_m lambda_m^s b_m``,
    s = (t - t_0) over the anchors' gap.

    With Y the m snapshots of the longest evenly spaced tail, oldest first, and ``G = Y^T Y``: ``G[:-1, :-1] = W S^2
    W^T``; ``A~ = S^-1 W^T G[:-1, 1:] W S^-1 = Q L Q^-1``; ``M = W S^-1 Q``; ``b = (M^H G[1:, 1:] M)^+ M^H G[1:, -1]``;
    the weights of snapshots 1..m-1 are ``Re M (L^s b)``. No decomposition of a feature's size is needed. Singular
    values under ``tolerance`` of the largest are dropped.

    With fewer than 4 evenly spaced anchors it is Taylor of order 1; where the fit is degenerate or not finite, reuse.
    Eigenvalues aren't clamped, so modes can grow. The samples of a batch share one fit.

    Source: the DMD calibrator of cache-dit (there per sample, by SVD of the features).

    Args:
        anchors: held, 4 or more.
        tolerance: as above.

    Raises:
        InputError: less than 4 anchors.
    """

    anchors: int = 6
    tolerance: float = 1e-4
    gram = True

    def __post_init__(self) -> None:
        if self.anchors < 4:
            raise InputError(f"DMD fits modes to at least 4 anchors, and anchors is {self.anchors}. Give 4 or more.")

    def weights(self, times: Sequence[float], t: float, context: Context) -> Tensor:
        count = evenly_spaced(times)
        if count < 4 or context.gram is None:
            return Taylor(1).weights(times, t, context)
        inner = context.gram[:count, :count].flip(0, 1).double()
        found = self._fit(inner, (t - times[0]) / (times[0] - times[1]))
        if found is None:
            return Reuse().weights(times, t, context)
        weights = torch.zeros(1, len(times), dtype=torch.float64)
        weights[0, : count - 1] = found.flip(0)
        return weights

    def _fit(self, inner: Tensor, ahead: float) -> Tensor | None:
        """[m - 1] weights of snapshots 1..m-1, oldest first; None where there is no sound fit."""
        if not bool(torch.isfinite(inner).all()) or float(inner.trace()) <= 0:
            return None
        values, vectors = torch.linalg.eigh(inner[:-1, :-1])
        kept = values > self.tolerance**2 * values[-1]
        if not bool(kept.any()):
            return None
        across = vectors[:, kept] / values[kept].sqrt()
        try:
            roots, modes = torch.linalg.eig(across.T @ inner[:-1, 1:] @ across)
            mixing = across.to(modes.dtype) @ modes
            later = inner[1:, 1:].to(modes.dtype)
            overlap = mixing.mH @ later @ mixing
            amplitudes = torch.linalg.pinv(overlap, hermitian=True) @ (mixing.mH @ later[:, -1])
        except torch.linalg.LinAlgError:
            return None
        found = (mixing @ (roots**ahead * amplitudes)).real
        return found if bool(torch.isfinite(found).all()) else None


def evenly_spaced(times: Sequence[float]) -> int:
    """How many of the newest times lie evenly."""
    count = min(len(times), 2)
    while count < len(times) and times[count - 1] - times[count] == times[0] - times[1]:
        count += 1
    return count
