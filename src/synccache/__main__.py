"""``python -m synccache``."""

import sys

from .errors import MissingPackage
from .extras import require


def main() -> int:
    """Run the command line, or say what it needs; ``synccache run`` needs nothing beside the library."""
    if sys.argv[1:2] == ["run"]:
        from .launch.command import main as run_script

        return run_script(sys.argv[2:])
    try:
        require("The command line", "rich", "typer")
    except MissingPackage as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    from .cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
