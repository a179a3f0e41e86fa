"""Telling one model from another: by what it is made of, and by its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from ..core.anatomy import Anatomy


def weights_of(blocks: Iterable[nn.Module]) -> str | None:
    """16 digits that tell one set of weights from another; None where they aren't in memory (meta tensors).

    The SHA-256 of at most 16 values of each parameter, spread evenly and rounded to bfloat16: the same for a model in
    float32 and in bfloat16.
    """
    digest = hashlib.sha256()
    for parameter in (p for block in blocks for p in block.parameters()):
        if parameter.is_meta:
            return None
        flat, count = parameter.detach().reshape(-1), min(16, parameter.numel())
        places = torch.arange(count, device=flat.device) * (len(flat) - 1) // max(count - 1, 1)
        digest.update(str(flat[places].bfloat16().tolist()).encode())
    return digest.hexdigest()[:16]


def differences(model: Mapping[str, Any], anatomy: Anatomy) -> list[tuple[str, Any, Any]]:
    """(key, known, found) wherever the identity ``model`` and that of ``anatomy`` are both known and differ.

    The blocks of a model that is yet to be observed aren't known.
    """
    unknown = ("blocks", "sites") if anatomy.observe is not None else ()
    both = [(key, model.get(key), value) for key, value in anatomy.identity().items() if key not in unknown]
    return [(k, known, v) for k, known, v in both if None not in (known, v) and known != v]
