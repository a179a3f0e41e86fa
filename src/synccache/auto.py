"""``import synccache.auto`` at the top of a script: a cache on every known transformer that it calls.

The options are those of ``synccache run``, in the environment variable ``SYNCCACHE_RUN``; without it nothing is done.

>>> # SYNCCACHE_RUN="--speed 3 --report out/" python inner.py
>>> import synccache.auto
"""

import atexit
import os
import shlex
import sys

from .errors import SynccacheError

VARIABLE = "SYNCCACHE_RUN"


def _begin(text: str) -> None:
    from .launch.options import check_attaching, read_options
    from .launch.report import Report
    from .launch.script import say
    from .launch.watch import Watch

    options = read_options(shlex.split(text), needs_command=False)
    watch = Watch(options, say)
    report = Report(options, watch, say)
    check_attaching(options)
    watch.start()
    atexit.register(report.finish)


if os.environ.get(VARIABLE):
    try:
        _begin(os.environ[VARIABLE])
    except SynccacheError as error:
        print(f"error: {VARIABLE}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
