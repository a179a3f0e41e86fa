"""Telling tensors apart across calls without reading them where that can be helped.

Pipelines pass the same objects at every step (prompt embeddings) or within a step (the latent), so identity settles
nearly every case. Only where it doesn't are values compared, which on an accelerator waits for it.
"""

from __future__ import annotations

import weakref
from collections.abc import Container, Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from .anatomy import tensors_in, version

_SAMPLES = 16


class Latents:
    """The latent of the call before: is this call's the same?"""

    def __init__(self, value: Any) -> None:
        self.tensors = tensors_in(value)
        self.versions = [version(t) for t in self.tensors]

    @property
    def shape(self) -> Hashable:
        """What makes another run when it changes: everything but the batch size."""
        sizes = [tuple(t.shape[1:]) if t.ndim > 2 else tuple(t.shape) for t in self.tensors]
        whole = [tuple(t.shape) for t in self.tensors]
        return tuple(sizes) if len(sizes) == 1 else tuple(whole[:1])

    @property
    def batch(self) -> int:
        return self.tensors[0].shape[0] if len(self.tensors) == 1 else len(self.tensors)

    def same_as(self, before: Latents) -> bool:
        if len(self.tensors) != len(before.tensors):
            return False
        now, then = self.tensors, before.tensors
        if all(a is b for a, b in zip(now, then, strict=True)):
            return self.versions == before.versions
        if any(a.shape != b.shape or a.dtype != b.dtype for a, b in zip(now, then, strict=True)):
            return False
        if any(version(b) != v for b, v in zip(then, before.versions, strict=True)):
            return False  # overwritten since: what it was can't be known
        return all(_same_view(a, b) or torch.equal(a, b) for a, b in zip(now, then, strict=True))


def _same_view(a: Tensor, b: Tensor) -> bool:
    known = version(a) is not None and version(a) == version(b)
    return known and a.data_ptr() == b.data_ptr() and a.stride() == b.stride()


class Conditioning:
    """All of a call's arguments but the timestep and the latent: which guidance branch is this?"""

    def __init__(self, arguments: Mapping[str, Any], leave_out: tuple[str, ...]) -> None:
        kept = [n for n in sorted(arguments) if n not in leave_out]
        named = [(name, t) for name in kept for t in tensors_in(arguments[name])]
        self.names, tensors = [name for name, _ in named], [t for _, t in named]
        self.references = [weakref.ref(t) for t in tensors]
        self.versions = [version(t) for t in tensors]
        self.shapes = [(tuple(t.shape), t.dtype) for t in tensors]
        self._tensors: list[Tensor] | None = tensors
        self._sample: list[list[float]] | None = None

    def remember(self) -> Conditioning:
        """Keep a few values for later comparison, and let go of the tensors."""
        self.sample()
        self._tensors = None
        return self

    def sample(self) -> list[list[float]]:
        if self._sample is None:
            self._sample = [_sampled(t) for t in self._tensors or []]
        return self._sample

    def same_as(self, before: Conditioning, names: Container[str] | None = None) -> bool:
        """Whether all arguments are what they were, of which there must be some; or those in ``names``."""
        mine, theirs = self._places(names), before._places(names)
        if (names is None and not mine) or [self.shapes[i] for i in mine] != [before.shapes[i] for i in theirs]:
            return False
        pairs = list(zip(mine, theirs, strict=True))
        if all(
            self.references[i]() is before.references[j]() and self.versions[i] == before.versions[j] for i, j in pairs
        ):
            return True
        now, then = self.sample(), before.sample()
        return all(now[i] == then[j] for i, j in pairs)

    def _places(self, names: Container[str] | None) -> list[int]:
        return [i for i, name in enumerate(self.names) if names is None or name in names]


def _sampled(tensor: Tensor) -> list[float]:
    flat = tensor.detach()
    if flat.is_complex():
        flat = torch.view_as_real(flat)
    flat = flat.reshape(-1)
    if flat.numel() == 0 or tensor.is_meta:
        return []
    wide = torch.float64 if flat.device.type == "cpu" else torch.float32
    picked = flat[:: max(1, flat.numel() // _SAMPLES)][:_SAMPLES].to(wide)
    # A few values and the size of the whole: silence differs from speech even where the samples agree.
    size = flat.sum(dtype=wide) if flat.dtype is torch.bool else flat.abs().sum(dtype=wide)
    return torch.cat([picked, size.reshape(1)]).tolist()
