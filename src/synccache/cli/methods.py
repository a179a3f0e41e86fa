"""``synccache methods``: what there is to choose from."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from .. import api
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
        say_json([recipe.info() for recipe in recipes.values()])
        return
    table = Table(box=None, padding=(0, 2, 1, 0), header_style="bold")
    for heading in ("method", "what it does", "settings"):
        table.add_column(heading, overflow="fold")
    for recipe in recipes.values():
        settings = "\n".join(f"{name}={_shown(value)}" for name, value in recipe.settings.items()) or "none"
        table.add_row(recipe.name, f"{recipe.summary}\n{recipe.paper}", settings)
    console = Console()
    if not console.is_terminal:
        console.width = 110
    console.print(table, markup=False, highlight=False)


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)
