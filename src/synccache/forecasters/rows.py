"""A learned row of weights for each step, over all steps before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.types import Context, Gate, Region
from ..errors import InputError
from .learned import Learned
from .rule import Rule


@dataclass(frozen=True, eq=False)
class Rows(Learned, Rule):
    """``F_t = sum_{s < t} W[t, s] F_s`` over every earlier step, computed or itself predicted so (a rollout).

    A rollout of tensors isn't needed: each step s is written as weights v_s over the computed steps alone,
    ``v_s = e_s`` where s was computed and ``v_s = sum_{r < s} W[s, r] v_r`` where it wasn't, and v_t is the answer. The
    times of the anchors tell which steps were computed. A step before the oldest anchor (dropped, as when a batch
    changes) counts as that one.

    Paper: L2P, CVPR 2026. The rows belong to one model, scheduler and number of steps T; ``anchors`` is T, since every
    computed step is used. They are learnt on the model's outputs, so they forecast nothing else.

    Args:
        rows: [T, T]; only what lies below the diagonal is used. Row t predicts step t; row 0 is empty.

    Raises:
        InputError: from ``weights``, in a run of another length, or of one that nobody tells.
    """

    rows: Tensor

    @property
    def anchors(self) -> int:
        return len(self.rows)

    def refuses(self, gate: Gate, regions: Sequence[Region]) -> str | None:
        other = next((region for region in regions if region.members or region.value != "output"), None)
        if other is None:
            return None
        return (
            f"Rows are learnt on what the whole model returns, and what they would forecast here is {other.id} "
            f"({other.value}). Choose the scope WholeModel() (that of 'l2p'), or another forecaster."
        )

    def weights(self, times: Sequence[float], t: float, context: Context) -> Tensor:
        step, total = int(t), context.step.total
        if step >= len(self.rows) or total != len(self.rows):
            found = "nobody tells how long this run is" if total is None else f"step {step} of {total} was asked for"
            raise InputError(
                f"The learned rows are for runs of {len(self.rows)} steps, and {found}. Use that many (steps= tells, "
                "where no scheduler does), or profile a run of the length you want."
            )
        oldest, place = int(times[-1]), {int(time): j for j, time in enumerate(times)}
        rows = self.rows.double().cpu()
        known = torch.zeros(step + 1, len(times), dtype=torch.float64)
        known[: oldest + 1, -1] = 1
        for s in range(oldest + 1, step + 1):
            known[s] = rows[s, :s] @ known[:s]
            if s in place:
                known[s] = 0
                known[s, place[s]] = 1
        return known[step:]


def learn_rows(gram: Tensor, ridge: float = 1e-4) -> Tensor:
    """Row by row the least squares of ``|F_t - sum_{s < t} W[t, s] F_s|^2 + ridge g |W[t] - reuse|^2``.

    Args:
        gram: [T, T] float64, inner products ``<F_s, F_r>`` of a run's values (a mean over several runs serves too).
        ridge: how strongly a row is pulled towards the step before (reuse), in parts of g, the mean of the earlier
            steps' squares; 0 takes the least squares nearest to reuse.

    Returns [T, T] float64, zero on and above the diagonal.
    """
    gram = gram.double()
    rows = torch.zeros_like(gram)
    for t in range(1, len(gram)):
        reuse = torch.zeros(t, dtype=torch.float64)
        reuse[-1] = 1
        normal = gram[:t, :t] + ridge * gram.diagonal()[:t].mean() * torch.eye(t, dtype=torch.float64)
        rows[t, :t] = reuse + torch.linalg.pinv(normal, hermitian=True) @ (gram[:t, t] - gram[:t, :t] @ reuse)
    return rows
