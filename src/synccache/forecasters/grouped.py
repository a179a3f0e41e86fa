"""Several rules side by side, one group of weights each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..core.types import Context, Forecaster, Gate, Region
from .rule import Rule


class Grouped(Rule):
    """What forecasters with a split have in common; each of the ``rules`` has one group of weights of its own."""

    rules: tuple[Forecaster, ...]

    @property
    def anchors(self) -> int:
        return max(rule.anchors for rule in self.rules)

    @property
    def gram(self) -> bool:  # type: ignore[override]
        return any(rule.gram for rule in self.rules)

    def refuses(self, gate: Gate, regions: Sequence[Region]) -> str | None:
        """A split is of tokens [B, S, D], which the whole model's output isn't; and what its rules refuse."""
        if any(not region.members for region in regions):
            return (
                f"{type(self).__name__} treats some tokens or channels of a block's stream unlike the others, and what "
                "is filled in here is the whole model's output, which has neither. Choose a scope inside the model, or "
                "a forecaster without such groups."
            )
        said = (rule.refuses(gate, regions) for rule in self.rules if hasattr(rule, "refuses"))
        return next((why for why in said if why), None)

    def weights(self, times: Sequence[float], t: float, context: Context) -> Tensor:
        """[len(rules), len(times)]: each rule sees as many anchors as it wants."""
        groups = []
        for rule in self.rules:
            count = min(len(times), rule.anchors)
            own = context if context.gram is None else replace(context, gram=context.gram[:count, :count])
            row = rule.weights(times[:count], t, own)
            groups.append(torch.nn.functional.pad(row, (0, len(times) - count)))
        return torch.cat(groups)
