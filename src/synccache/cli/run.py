"""``synccache run``: any script, with a cache on the transformers that it calls. ``launch`` reads its command line."""

from __future__ import annotations

from typing import Annotated

import typer

from ..launch.options import EXAMPLES  # noqa: F401  shown by the help


def run(
    command: Annotated[list[str], typer.Argument(help="Options, -- and a script; see 'synccache run --help'.")],
) -> None:
    """Run any Python script unchanged, with a cache on the video transformers that it calls."""
