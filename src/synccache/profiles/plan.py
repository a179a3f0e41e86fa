"""A plan: which cached segments to merge, and how much a probe sees change; from one run of a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..methods.remedy import ProfileNeeded
from ..scopes import best_path

SHIPPED = "synccache"  # whose profile, where the package has one, is the plan of every method that takes one
NOTHING = -1.0  # in tensors: a step with which nothing could be compared


@dataclass(frozen=True)
class Plan:
    """What a profile tells about segments.

    Attributes:
        ends: index of the last block of each elementary segment.
        gamma: ``gamma[j][k]``, instability of the segment from node j to node k (nodes 0..len(ends)); 0 where j >= k.
        errors: probe error of each step; None where nothing could be compared.
        mask_weight: of the person's tokens in these errors; None: unknown.
    """

    ends: tuple[int, ...]
    gamma: tuple[tuple[float, ...], ...]
    errors: tuple[float | None, ...]
    mask_weight: float | None = None

    def boundaries(self, segments: int, through: Collection[int] = ()) -> tuple[int, ...]:
        """The blocks after which a kept segment ends, for ``segments`` segments of least total instability.

        ``through`` lists blocks that must be among them.

        Raises:
            InputError: more segments than there are.
        """
        if not 1 <= segments <= len(self.ends):
            raise InputError(f"{segments} segments were asked for; the plan has 1 to {len(self.ends)}.")
        nodes = [self.ends.index(block) + 1 for block in through]
        return tuple(self.ends[node - 1] for node in best_path(self.gamma, segments, nodes)[1:-1])

    def tensors(self) -> dict[str, Tensor]:
        """As a profile holds it: ``ends`` [S] int64; float64 ``gamma`` [S + 1, S + 1], ``errors`` [T] and
        ``mask_weight`` [1] (unknown: [0])."""
        errors = [NOTHING if e is None else e for e in self.errors]
        return {
            "ends": torch.tensor(self.ends),
            "gamma": torch.tensor(self.gamma, dtype=torch.float64),
            "errors": torch.tensor(errors, dtype=torch.float64),
            "mask_weight": torch.tensor([w for w in (self.mask_weight,) if w is not None], dtype=torch.float64),
        }

    @classmethod
    def of(cls, tensors: Mapping[str, Any]) -> Plan | None:
        """The plan that a profile's tensors hold; None where they are of another kind.

        Raises:
            InputError: they don't fit together.
        """
        if not {"ends", "gamma", "errors"} <= set(tensors):
            return None
        ends, gamma, errors = (tensors[name] for name in ("ends", "gamma", "errors"))
        weight = tensors.get("mask_weight", torch.zeros(0)).flatten()
        whole = ends.dim() == errors.dim() == 1 and gamma.shape == (len(ends) + 1, len(ends) + 1)
        if not (whole and bool((gamma >= 0).all()) and bool((ends.diff() > 0).all())):
            raise ProfileNeeded(
                f"The profile's segments don't fit together: {list(ends.shape)} ends, {list(gamma.shape)} gamma, "
                f"{list(errors.shape)} errors.",
                SHIPPED,
            )
        return cls(
            ends=tuple(ends.tolist()),
            gamma=tuple(map(tuple, gamma.tolist())),
            errors=tuple(None if e < 0 else e for e in errors.tolist()),
            mask_weight=next(iter(weight.tolist()), None),
        )
