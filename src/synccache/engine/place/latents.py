"""The latent of a call beside that of the step: the same, a pass of it, moved on a little, or another picture's."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...core.anatomy import tensors_in, version

SAMPLES = 2048
FEW = 16  # so few elements tell nothing
# Below this correlation one latent is no step of a sampler away from the other; on a schedule that goes on as it says,
# less is believed: samplers that renew their noise move far.
FAR, FAR_ON_SCHEDULE = 0.5, 0.2


@dataclass(frozen=True)
class Likeness:
    """How a latent differs from another.

    Attributes:
        changed: share of the elements that differ; 0: it is the same.
        correlation: of those that differ, and are 0 in neither. What never moves (a reference picture in channels of
            its own) says nothing, nor does what is there in one pass only.
        zeroed: share of those that are 0 in one of the two.
        empty: share of all elements that are 0, in this one and in the other.
    """

    changed: float = 0.0
    correlation: float = 1.0
    zeroed: float = 0.0
    empty: tuple[float, float] = field(default=(0.0, 0.0), compare=False)

    @property
    def same(self) -> bool:
        return self.changed == 0

    @property
    def is_pass(self) -> bool:
        """Whether it is the same noise beside another reference: a further pass of the same step."""
        return self.changed < 1 and self.zeroed > 0.9

    def far(self, limit: float = FAR) -> bool:
        return not self.same and self.correlation < limit

    def leaps(self, way: float) -> bool:
        """Whether it is further away than a sampler goes that adds no noise, over ``way`` of all noise levels."""
        return not self.same and math.acos(max(-1.0, min(1.0, self.correlation))) > 4 * way + 0.1


class Latents:
    """The latent that a call carries, a tensor or a list of tensors.

    Attributes:
        shape: what makes another run when it changes: everything but the batch size.
        batch: number of samples.
    """

    def __init__(self, value: Any) -> None:
        self.tensors = tensors_in(value)
        self.listed = not isinstance(value, Tensor)  # then each tensor is a sample
        self.versions = [version(t) for t in self.tensors]
        first = self.tensors[0]
        self.shape: Hashable = tuple(first.shape[1:] if first.ndim > 2 and not self.listed else first.shape)
        self.batch = len(self.tensors) if self.listed else first.shape[0]

    def is_seen(self, before: Latents) -> bool:
        """Whether it is the very same data, as far as that shows without reading it."""
        pairs = list(zip(self.tensors, before.tensors, strict=False))
        if len(self.tensors) != len(before.tensors) or None in self.versions or self.versions != before.versions:
            return False
        return all(a is b or (a.data_ptr() == b.data_ptr() and a.stride() == b.stride() and a.shape == b.shape
                              and a.dtype is b.dtype and a.device == b.device) for a, b in pairs)  # fmt: skip

    def sample(self) -> Tensor:
        """[n] float32, about ``SAMPLES`` elements of all samples, for ``compared``: a copy."""
        found = []
        for tensor in self.tensors:
            flat = tensor.detach().reshape(-1)
            stride = -(-flat.numel() * len(self.tensors) // SAMPLES)
            found.append(flat[:: stride + (stride % 2 == 0)].to(torch.float32, copy=True))
        return found[0] if len(found) == 1 else torch.cat([f.to(found[0].device) for f in found])


def compared(now: Tensor, before: Tensor) -> Tensor:
    """[7] sums over two samples [n], which ``likeness`` reads: of what has changed, and of zeros."""
    changed, zeros = now != before, (now == 0, before == 0)
    zeroed = changed & (zeros[0] | zeros[1])
    a, b = now * (changed & ~zeroed), before * (changed & ~zeroed)
    return torch.stack([changed, a * b, a * a, b * b, zeroed, *zeros]).sum(1)


def likeness(sums: Sequence[float], count: int) -> Likeness:
    """What ``compared`` found, of ``count`` elements; not-a-number counts as far."""
    changed, product, a, b, zeroed, *empty = sums
    shares = (empty[0] / count, empty[1] / count)
    if changed == 0:
        return Likeness(empty=shares)
    size = (a * b) ** 0.5
    correlation = 1.0 if count < FEW else product / size if size > 0 else 0.0
    correlation = correlation if correlation == correlation else -1.0
    return Likeness(changed / count, correlation, zeroed / changed, shares)
