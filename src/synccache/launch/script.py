"""Running a script or a module in this process as ``python`` would."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from .options import Options
from .report import Report
from .watch import Watch

NOTHING_ATTACHED = 3  # exit code of --strict


def say(text: str) -> None:
    """Tell the user something; of several ranks, one does."""
    if os.environ.get("RANK", "0") == "0":
        print(f"synccache: {text}", file=sys.stderr, flush=True)


def run(options: Options) -> int:
    """Run ``options.command`` with a cache on the transformers that it calls.

    Its exceptions, ``SystemExit`` and Ctrl-C among them, pass through; tracebacks begin with its own frames.

    Returns:
        The exit code, where the script ends by itself.
    """
    watch = Watch(options, say)
    report = Report(options, watch, say)
    sys.excepthook = _without_own_frames(sys.excepthook)
    watch.start()
    try:
        execute(options.command)
    except SystemExit as end:
        if report.finish() or not options.strict or end.code not in (None, 0):
            raise
        return NOTHING_ATTACHED
    except BaseException:
        report.finish()
        raise
    finally:
        watch.stop()
    return 0 if report.finish() or not options.strict else NOTHING_ATTACHED


def execute(command: Sequence[str]) -> None:
    """Run a script (or a folder or archive with a ``__main__``), ``-m module``, or ``-c code``, with its arguments."""
    kind, rest = (command[0], command[1:]) if command[0] in ("-m", "-c") else ("", command)
    sys.argv = [*rest] if not kind else [kind, *rest[1:]]
    if kind == "-m":
        sys.path[0] = os.getcwd()
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        return
    if kind == "-c":
        sys.path[0] = ""
        exec(compile(rest[0], "<string>", "exec"), _main_variables())
        return
    script = Path(rest[0])
    sys.path[0] = str(script.resolve().parent)
    if script.is_dir() or script.suffix in (".zip", ".pyz"):
        del sys.path[0]  # runpy puts the folder or archive there
    runpy.run_path(rest[0], run_name="__main__")


def _main_variables() -> dict:
    import types

    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    return main.__dict__


def _without_own_frames(before):  # type: ignore[no-untyped-def]
    """An ``excepthook`` that shows a script's traceback as if ``python`` had run it."""

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        at = trace
        while at is not None and _is_own(at):
            at = at.tb_next
        before(kind, error.with_traceback(at or trace), at or trace)

    return show


def _is_own(trace: TracebackType) -> bool:
    name = trace.tb_frame.f_globals.get("__name__", "")
    file = trace.tb_frame.f_code.co_filename
    return name == "runpy" or file.startswith("<frozen runpy") or file in _OWN or name.startswith("synccache.")


_OWN = {str(Path(__file__).parents[1] / "__main__.py"), sys.argv[0] if sys.argv else ""}
