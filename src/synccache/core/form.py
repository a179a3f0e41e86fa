"""Outputs taken apart into their tensors, and put together again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Leaf:
    """Stands for the output's value number ``position`` in a recorded output structure."""

    position: int


def take_apart(output: Any, leaves: list[Any]) -> Any:
    """The output's structure with a ``Leaf`` for each value; the values are appended to ``leaves``."""
    if isinstance(output, Tensor):
        leaves.append(output)
        return Leaf(len(leaves) - 1)
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return type(output)(*(take_apart(o, leaves) for o in output))
    if isinstance(output, list | tuple):
        return type(output)(take_apart(o, leaves) for o in output)
    if type(output) is dict:
        return {k: take_apart(v, leaves) for k, v in output.items()}
    leaves.append(output)
    return Leaf(len(leaves) - 1)


def put_together(template: Any, leaves: Mapping[int, Any]) -> Any:
    """The inverse of ``take_apart``."""
    if isinstance(template, Leaf):
        return leaves[template.position]
    if isinstance(template, tuple) and hasattr(template, "_fields"):
        return type(template)(*(put_together(t, leaves) for t in template))
    if isinstance(template, list | tuple):
        return type(template)(put_together(t, leaves) for t in template)
    return {k: put_together(v, leaves) for k, v in template.items()}


@dataclass(frozen=True)
class Form:
    """What an output looks like: its structure, an empty tensor for each tensor in it, and what else is in it."""

    template: Any
    tensors: Mapping[int, Tensor]
    others: Mapping[int, Any]

    @classmethod
    def of(cls, output: Any) -> tuple[Form, dict[int, Tensor]]:
        """The form of an output, and its tensors by position."""
        leaves: list[Any] = []
        template = take_apart(output, leaves)
        tensors = {i: leaf for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)}
        others = {i: leaf for i, leaf in enumerate(leaves) if i not in tensors}
        return cls(template, {i: t.new_empty(()) for i, t in tensors.items()}, others), tensors

    def filled(self, values: Mapping[int, Tensor]) -> Any:
        """An output of this form."""
        return put_together(self.template, {**self.others, **values})
