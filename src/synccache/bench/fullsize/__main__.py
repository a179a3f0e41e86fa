"""``python -m synccache.bench.fullsize``."""

import sys

from .command import main

sys.exit(main())
