"""Measuring a region's residual while its blocks run.

Every block's input is subtracted from, and its output added to, one float32 sum: nothing has to be kept alive or
cloned, and what the model (or the block itself) writes in place afterwards does no harm. Where one block's output is
known to reach the next untouched, the two cancel and both passes are left out.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ...core.anatomy import version
from ...core.types import Region


class Capture:
    """The running sum of one region on one computed call, per stream.

    Args:
        joined: indices of the blocks whose output is known to reach the next untouched; the sum takes out those where
            this turns out to be wrong.

    Attributes:
        sums: float32 (or wider) tensors by stream.
        dtypes: the streams' own, as last seen.
        valid: False once something was missed; the region then has no anchor for this call.
    """

    def __init__(self, region: Region, joined: set[int]) -> None:
        self.region, self.joined = region, joined
        self.sums: dict[str, Tensor] = {}
        self.dtypes: dict[str, torch.dtype] = {}
        self.valid = True
        self._pending: tuple[int, Mapping[str, Tensor], dict[str, int | None]] | None = None

    def enter(self, index: int, inputs: Mapping[str, Tensor]) -> None:
        """Block ``index`` is about to run on ``inputs``."""
        if self.region.value == "absorbed" and self.sums:
            return
        if self._pending is not None:
            before, outputs, versions = self._pending
            joined = index - 1 in self.joined
            untouched = [outputs.get(name) is x and versions[name] == version(x) for name, x in inputs.items()]
            if joined and before == index - 1 and all(untouched):
                self._pending = None
                return
            self.joined.discard(before)
            if not joined and None in versions.values():
                self.valid = False  # written to under inference mode, where no version tells what it was
            self.settle()
        for name, x in inputs.items():
            self._add(name, x, -1)

    def leave(
        self, index: int, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor], added: list[tuple[str, Tensor]]
    ) -> None:
        """Block ``index`` made ``outputs`` of ``inputs``; what was ``added`` as its last act is no part of the sum."""
        region, absorbed = self.region, self.region.value == "absorbed"
        if outputs.keys() != inputs.keys():
            if not (outputs and outputs.keys() < inputs.keys() and index == region.first):
                self.valid = False
                return
            for name in inputs.keys() - outputs.keys():  # streams that end in this block
                self.sums.pop(name, None)
        if index in self.joined and index < region.last and not absorbed:
            self._pending = (index, outputs, {n: version(x) for n, x in outputs.items()})
        elif index == region.last or not absorbed:
            for name, x in outputs.items():
                self._add(name, x, 1)
        for stream, value in () if absorbed else added:
            self.sums[stream].sub_(value)

    def settle(self) -> None:
        """Add what the last block gave, if that is still to be done."""
        if self._pending is not None:
            _, outputs, versions = self._pending
            self._pending = None
            for name, x in outputs.items():
                if version(x) != versions[name]:
                    self.valid = False  # overwritten before it could be added
                else:
                    self._add(name, x, 1)

    def _add(self, name: str, x: Tensor, sign: int) -> None:
        x = x.detach()
        self.dtypes[name] = x.dtype
        held = self.sums.get(name)
        if held is None:
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            self.sums[name] = torch.neg(wide) if sign < 0 else wide.clone()
        elif held.shape != x.shape:
            self.valid = False
        else:
            held.add_(x, alpha=sign)
