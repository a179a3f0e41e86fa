"""Running other people's scripts with a cache on whatever transformer they call: ``synccache run``."""
