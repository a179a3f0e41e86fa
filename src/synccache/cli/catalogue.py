"""The methods as the command line lists them, read from a file so that listing them imports neither recipes nor torch.

``python tools/methods_page.py`` writes the file from the recipes. It is believed only while the recipes' source is what
it was written from; else they are asked themselves.
"""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..methods.recipe import Recipe

NAME = "catalogue.json"


def listed() -> list[dict[str, Any]]:
    """What is known of each method, by name."""
    try:
        found = json.loads((files("synccache") / "methods" / "data" / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    return found["methods"] if found.get("source") == source() else described_anew()


def described_anew() -> list[dict[str, Any]]:
    """The same from the recipes."""
    from ..methods import RECIPES

    return [described(recipe) for recipe in RECIPES.values()]


def described(recipe: Recipe) -> dict[str, Any]:
    """All that is known of a method, with the number of tensors that it holds on a small and on a large model."""
    from ..inspection.stored import COUNTED, stored_tensors

    return {**recipe.info(), "cached_tensors": {model: stored_tensors(recipe, model) for model in COUNTED}}


def source() -> str:
    """Digest of the recipes' source files."""
    parts = sorted((f.name, f.read_text(encoding="utf-8")) for f in _files() if f.name.endswith(".py"))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _files() -> Any:
    return (files("synccache") / "methods").iterdir()


def text() -> str:
    """The file's content."""
    rows = ",\n".join(json.dumps(row) for row in described_anew())
    return f'{{"source": "{source()}",\n"methods": [\n{rows}\n]}}\n'
