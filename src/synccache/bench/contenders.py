"""Who runs in a benchmark: methods under test, and the controls that every table of this project carries."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..methods.names import lenders
from ..methods.recipe import Recipe

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
    *(_fewer(n) for n in (10, 20)),
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

# -- every method ------------------------------------------------------------------------------------------------

# Where neither a number of computed steps nor an interval sets the speed, or another one than usual is wanted.
AT_THREE: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "dbcache": tuple((f"{t:g}", {"threshold": t, "warmup": 4}) for t in (0.1, 0.2, 0.3)),
    "dicache": tuple((f"@{n}", {"computed_steps": n, "warmup": 4, "max_gap": 0}) for n in (6, 8, 10)),
    "delta-dit": tuple((f"1/{n}", {"interval": n}) for n in (4, 6, 8)),
    "easycache": tuple((f"@{n}", {"computed_steps": n, "warmup": 4, "max_gap": 0}) for n in (6, 8, 10)),
    "first-block": tuple((f"{t:g}", {"threshold": t}) for t in (0.12, 0.16, 0.2)),
    **{name: tuple((f"{b:g}", {"budget": b}) for b in (0.25, 0.5, 0.75)) for name in ("hsa", "hsa-line")},
    "l2p": tuple((f"1/{n}", {"interval": n}) for n in (6, 8, 12)),
    "magcache": tuple((f"{t:g}", {"threshold": t, "max_gap": 9}) for t in (0.12, 0.24, 0.4)),
    "profilingdit": tuple((f"1/{n}", {"refresh": list(range(6, 50, n))}) for n in (7, 9, 12)),
    "schedule": tuple(
        (f"searched @{n}", {"computed_steps": n, "order": 1, "reach": 1.5, "guided": True}) for n in (8, 10, 12)
    ),
    "searched": tuple((f"@{n}", {"computed_steps": n}) for n in (8, 10, 12)),
    "spectrum": tuple((f"+{g:g}", {"growth": g}) for g in (0.75, 1.5, 3.0)),
    "synccache-cfg": tuple((f"@{n}", {"computed_steps": n, "max_gap": 0}) for n in (7, 10, 18)),
    "uncond-reuse": tuple((f"1/{n}", {"interval": n}) for n in (8, 13, 20)),
}


def of_method(recipe: Recipe) -> tuple[Contender, ...]:
    """A method at three settings or more, from about 2.5 to about 4 times as fast."""
    if recipe.paper == "control":
        return ()
    gate = lenders(recipe.name)[0]
    if gate in AT_THREE:
        known = ((text, {k: v for k, v in own.items() if k in recipe.settings}) for text, own in AT_THREE[gate])
        settings = tuple(known)
    elif "computed_steps" in recipe.settings:
        off = {"max_gap": 0} if "max_gap" in recipe.settings else {}
        settings = tuple((f"@{n}", {"computed_steps": n, **off}) for n in (6, 8, 10))
    else:
        settings = tuple((f"1/{n}", {"interval": n}) for n in (6, 8, 12))
    return tuple(Contender(f"{recipe.name} {text}", recipe.name, own, curve=recipe.name) for text, own in settings)


# The steps that a search picks, and no cache: what a cache does beyond choosing its steps has to beat this.
PICKED = tuple(
    Contender(f"fewer-steps, searched @{n}", "fewer-steps", {"computed_steps": n}, True, curve="fewer-steps, searched")
    for n in (8, 10, 12)
)
SHORT_CONTROLS = (CONTROLS[0], *(replace(control, steps=10) for control in CONTROLS[1:]))


def of_methods(recipes: Iterable[Recipe], quick: bool = False) -> tuple[Contender, ...]:
    """The reference, fewer steps, the other controls (in 10 steps: they only mark the floor), and every method."""
    if quick:
        fewer = (*(_fewer(n) for n in (8, 20)), PICKED[1])
        return (Contender(REFERENCE), *fewer, *SHORT_CONTROLS[:2], *itertools.chain(*map(_one_setting, recipes)))
    fewer = (*(_fewer(n) for n in (8, 10, 14, 20)), *PICKED)
    return (Contender(REFERENCE), *fewer, *SHORT_CONTROLS, *itertools.chain(*map(of_method, recipes)))


def _one_setting(recipe: Recipe) -> tuple[Contender, ...]:
    """A method at one setting that needs no threshold found first: by default, or the middle one of its three."""
    chosen = of_method(recipe)[1:2]
    if any("computed_steps" in c.settings and "threshold" in recipe.settings for c in chosen):
        return (Contender(f"{recipe.name} (defaults)", recipe.name, curve=recipe.name),)
    return chosen
