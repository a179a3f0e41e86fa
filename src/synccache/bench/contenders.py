"""Who runs in a benchmark: methods under test, and the controls that every table of this project carries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

REFERENCE = "uncached"


@dataclass(frozen=True)
class Contender:
    """One row of a table.

    Attributes:
        label: unique in its suite.
        method: a name from ``synccache.methods()``; None for a picture that needs no model.
        settings: of the method.
        control: whether a claim has to beat it.
        steps: denoising steps.
        speech: whose audio is heard: ``"own"``, ``"other"`` (the next clip's) or ``"silence"``.
        reseeded: run with another seed than the reference.
        curve: contenders of one curve are joined in the plot.
    """

    label: str
    method: str | None = "none"
    settings: Mapping[str, Any] = field(default_factory=dict)
    control: bool = False
    steps: int = 40
    speech: str = "own"
    reseeded: bool = False
    curve: str = ""

    @property
    def key(self) -> str:
        """What a stored row must agree with to be taken over."""
        return json.dumps([self.label, self.method, dict(self.settings), self.steps, self.speech], sort_keys=True)

    @property
    def full(self) -> bool:
        """Whether it takes as long as the uncached reference."""
        return self.method == "none" and self.steps == 40


def _at(method: str, computed: int, **settings: Any) -> Contender:
    label = f"{method} @{computed}"
    return Contender(label, method, {"computed_steps": computed, **settings}, curve=method)


def _every(method: str, interval: int, **settings: Any) -> Contender:
    return Contender(f"{method} 1/{interval}", method, {"interval": interval, **settings}, curve=method)


def _fewer(steps: int) -> Contender:
    return Contender(f"fewer-steps {steps}", "none", steps=steps, control=True, curve="fewer-steps")


CONTROLS = (
    Contender("still picture", None, control=True),
    Contender("another clip's audio", control=True, speech="other"),
    Contender("silence", control=True, speech="silence"),
    Contender("another seed", control=True, reseeded=True),
)

CORE = (
    Contender(REFERENCE),
    *(_fewer(n) for n in (8, 10, 12, 14, 16, 18, 20, 24)),
    *CONTROLS,
    Contender("synccache (defaults)", "synccache", curve="synccache"),
    *(_at("synccache", n) for n in (10, 14)),
    _at("whole-stack", 12),
    _every("interval", 4),
    *(_every("linear", n) for n in (3, 4)),
    Contender("synccache-linear (defaults)", "synccache-linear", curve="synccache-linear"),
    _at("synccache-linear", 14),
    _at("asymmetric", 12),
    Contender("synccache-cfg (defaults)", "synccache-cfg", curve="synccache-cfg"),
    *(_at("synccache-cfg", n) for n in (12, 14, 18)),
)

QUICK = (
    Contender(REFERENCE),
    *(_fewer(n) for n in (10, 16)),
    CONTROLS[0],
    CONTROLS[1],
    Contender("synccache (defaults)", "synccache", curve="synccache"),
    _at("whole-stack", 12),
    _every("interval", 4),
    _every("linear", 4),
    Contender("synccache-linear (defaults)", "synccache-linear", curve="synccache-linear"),
    Contender("synccache-cfg (defaults)", "synccache-cfg", curve="synccache-cfg"),
)

ABLATED = 13  # computed steps at which the ablations are compared


def _ablation(label: str, **settings: Any) -> Contender:
    return Contender(label, "synccache", {"computed_steps": ABLATED, **settings}, curve="ablation")


ABLATIONS = (
    Contender(REFERENCE),
    _ablation("synccache"),
    _ablation("without the mask", mask_weight=1.0),
    _ablation("without decoupling", decoupled=False),
    *(_ablation(f"random boundaries {seed}", boundaries=seed) for seed in (1, 2, 3)),
    *(_ablation(f"cache ratio {ratio:g}", cache_ratio=ratio) for ratio in (0.1, 0.2, 0.6, 0.8, 1.0)),
)
