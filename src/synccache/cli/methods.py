"""``synccache methods``: what there is to choose from."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from .. import api
from ..inspection.stored import COUNTED, stored_tensors
from ..methods.recipe import Recipe
from .console import say_json
from .options import Json

EXAMPLES = """
Examples:

  synccache methods

  synccache methods --json
"""


def methods(json_: Json = False) -> None:
    """List the caching methods with their settings and defaults."""
    recipes = api.methods()
    if json_:
        say_json([described(recipe) for recipe in recipes.values()])
        return
    table = Table(box=None, padding=(0, 2, 1, 0), header_style="bold")
    table.add_column("method", no_wrap=True)
    table.add_column("what it does, where it comes from, its settings and their defaults", overflow="fold")
    for recipe in recipes.values():
        settings = ", ".join(f"{name} {_shown(value)}" for name, value in recipe.settings.items()) or "no settings"
        table.add_row(recipe.name, f"{recipe.summary}\n{recipe.paper}\n{settings}")
    Console().print(table, markup=False, highlight=False)


def described(recipe: Recipe) -> dict[str, Any]:
    """All that is known of a method, with the number of tensors that it holds on a small and on a large model."""
    return {**recipe.info(), "cached_tensors": {model: stored_tensors(recipe, model) for model in COUNTED}}


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)
