"""``synccache run``: its command line, and from there on the script's own process."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ..errors import SynccacheError
from .options import check, read_options


def main(arguments: Sequence[str]) -> int:
    """Run a script as ``arguments`` say; gives 2 where they can't be used, else the exit code of the script."""
    try:
        options = read_options(arguments)
        check(options)
    except SynccacheError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except SystemExit:  # the help was printed
        return 0
    from .script import run  # torch comes with it

    return run(options)
