"""What recipes take from a profile."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..engine.types import Run
from ..errors import InputError
from ..gates import Listed
from .recipe import Settings


def learned(s: Settings, method: str, name: str, what: str) -> Tensor:
    """The tensor ``name`` of the setting ``profile``.

    Raises:
        InputError: there is no profile, or no such tensor in it; ``what`` says in words what is missing.
    """
    make = f"Make one with: synccache profile --method {method} --out profile.safetensors"
    if s["profile"] is None:
        raise InputError(f"The method {method!r} needs profile=..., with {what}. {make}")
    if name not in s["profile"].tensors:
        found = ", ".join(s["profile"].tensors)
        raise InputError(f"The profile holds {found}, and the method {method!r} needs {name!r}, {what}. {make}")
    return s["profile"].tensors[name]


@dataclass(frozen=True)
class ListedFor(Listed):
    """A list of steps that was learnt for runs of one length; others are refused as they start."""

    steps: int = 0
    method: str = ""

    def init(self, run: Run) -> None:
        if run.total != self.steps:
            found = "nobody tells how long this run is" if run.total is None else f"this run has {run.total}"
            raise InputError(
                f"The profile is for runs of {self.steps} steps, and {found}. Use as many steps (steps= tells, where "
                f"no scheduler does), or profile a run of this length: synccache profile --method {self.method} "
                "--steps N."
            )
