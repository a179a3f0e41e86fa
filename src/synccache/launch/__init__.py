"""Running other people's scripts with a cache on whatever transformer they call: ``synccache run``."""

from .options import Options, read_options
from .script import check, run

__all__ = ["Options", "check", "read_options", "run"]
