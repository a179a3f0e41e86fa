"""Write docs/methods.md, and the file that `synccache methods` reads, from the recipes: `python tools/methods_page.py`
after a method was added or changed."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from synccache.api import methods
from synccache.cli import catalogue
from synccache.cli.catalogue import described
from synccache.defaults import DEFAULTS, OTHERS
from synccache.inspection.stored import COUNTED
from synccache.methods.recipe import Recipe

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "methods.md"
CATALOGUE = ROOT / "src" / "synccache" / "methods" / "data" / catalogue.NAME
HEAD = """# Methods

<!-- Written by tools/methods_page.py from the recipes in src/synccache/methods/; change it there. -->

Each method is a choice on three axes: *when* a step is computed (gate), *where* the others are filled in (scope), *how*
the missing value is predicted (forecaster). `synccache methods --json` has the same data.

Two can be composed, `--method synccache+hicache` (gate and scope of the first, forecaster of the second), and any
three, `--method gate=synccache,scope=whole-stack,forecaster=foca` (each part from the named method; parts left out from
the gate's). A composed method takes the settings of the parts that it is made of, each with the default of the method
that lends the part. What makes no sense is refused in a sentence that says why. In Python there is also
`synccache.Method(gate, scope, forecaster)`.

*Tensors* counts what is stored for each guidance branch at default settings, as large as the token sequence unless the
scope says otherwise, on the built-in portrait model / on Wan2.2-S2V-14B; *+ n* is what is kept once for all branches,
for the gate to compare with or as the output from which other branches are filled in, and *others n* what each of these
branches holds. A dash: it needs a profile of that model first.

Every method takes `speed=3` (or `"quality"` 2, `"balanced"` 3, `"fast"` 4): how many times faster denoising is to be.
The number of computed steps follows from what a skipped step costs, estimated at first, timed as soon as some were
skipped; at least 5 are computed, and what can't be reached is said with the highest speed that can. Methods with a
`computed_steps` setting take it as that many steps; the others compute as many, evenly spread, in the place of their
own rule. `speed=` without a method takes the model's default:

{DEFAULTS}

What a method learns beforehand comes from one uncached run: `synccache profile --method NAME --out
profile.safetensors` on the built-in portrait model, which has most of them already; `synccache.learn_profile(pipe,
"NAME", lambda: pipe(...)).save("profile.safetensors")` on any other. `--profile` and `profile=` use it. A profile is
kept with the model, the scheduler and the steps that it is of, and refused where it doesn't fit. What `synccache`
learns, where segments merge best and what its probe finds, serves every method with segments.
"""
STARTS = re.compile(
    r"(Papers?|Source|Formula|Costs?|Cost of [\w ]+|Memory|Defaults?|Computed|Coefficients|Block lists|Limits?|Needs|"
    r"Readings?|Evidence):|Use it|Not for|- "
)


def page() -> str:
    """The page's text."""
    recipes = methods().values()
    rows = ["| method | year | when | where | how | tensors | needs |", "|---|---|---|---|---|---|---|"]
    rows += [_row(recipe, described(recipe)["cached_tensors"]) for recipe in recipes]
    families = {**DEFAULTS, "any other": OTHERS}.items()
    chosen = "\n".join(f"- {family}: `{default.method}`; {default.why}." for family, default in families)
    return "\n".join([HEAD.replace("{DEFAULTS}", chosen), *rows, "", *(_section(recipe) for recipe in recipes)])


def _row(recipe: Recipe, held: dict[str, dict[str, int] | None]) -> str:
    year, link = recipe.year or "–", f"[`{recipe.name}`](#{recipe.name})"
    tensors = " / ".join(_tensors(held[model]) for model in COUNTED)
    cells = [link, str(year), recipe.gate, recipe.scope, recipe.forecaster, tensors, recipe.needs]
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _tensors(held: dict[str, int] | None) -> str:
    if held is None:
        return "–"
    once = held["gate"] + held["lead"]
    more = f" + {once}" * bool(once) + f", others {held['guidance']}" * bool(held["guidance"])
    return f"{held['anchors']}{more}"


def _section(recipe: Recipe) -> str:
    title, *lines = (sys.modules[recipe.build.__module__].__doc__ or "").strip().splitlines()
    text: list[str] = []
    for line in lines:
        if not text or not line.strip() or STARTS.match(line):
            text.append("")
        text[-1] = f"{text[-1]} {line.strip()}".strip()
    points = [f"  {_shown(point)}" if point.startswith("- ") else f"- {_shown(point)}" for point in text if point]
    settings = ", ".join(f"`{name}` {_value(value)}" for name, value in recipe.settings.items())
    points.append(f"- Settings and defaults: {settings or 'none'}.")
    points += [f"- On `{model}`: " + ", ".join(f"`{k}` {_value(v)}" for k, v in own.items()) + "."
               for model, own in recipe.models.items()]  # fmt: skip
    return "\n".join([f"## {recipe.name}", "", _shown(title), "", *points, ""])


def _shown(text: str) -> str:
    return text.replace("``", "`")


def _value(value: Any) -> str:
    return "–" if value is None else str(value).lower() if isinstance(value, bool) else f"{value}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    CATALOGUE.write_text(catalogue.text(), encoding="utf-8")
