"""The command line: thin commands over the public functions, one file each."""

from __future__ import annotations

import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated

import typer

from .. import __version__
from ..errors import SynccacheError
from ..launch.command import main as run_script
from ..memory import keep_freed_memory
from .console import Stopped, note, say, show_warnings_plainly

COMMANDS = (
    *("demo", "animate", "run", "methods", "inspect", "profile", "bench"),
    *("portrait-train", "portrait-eval", "stage-train", "stage-eval"),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"synccache {__version__}")
        raise typer.Exit


def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        say(context.get_help())


def application(wanted: Sequence[str] = COMMANDS) -> typer.Typer:
    """The program with the commands ``wanted``; each lives in the module of its name, which is imported only here."""
    app = typer.Typer(
        name="synccache",
        help="Faster diffusion-transformer video, with lips still in sync.",
        epilog="Start with: synccache demo. Tab completes commands, flags and methods after: "
        "synccache --install-completion",
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_root)
    for name in wanted:
        module = import_module(f".{name.replace('-', '_')}", __package__)
        app.command(name, epilog=module.EXAMPLES)(getattr(module, name.replace("-", "_")))
    return app


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Inside, SIGTERM ends the program as an exception does, so that nothing half-written is left."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code: 0, 2 for what the user should change, 130 after Ctrl-C."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    if args[:1] == ["run"]:
        return run_script(args[1:])
    keep_freed_memory()
    wanted = args[:1] if args[:1] and args[0] in COMMANDS else COMMANDS
    with _ended_by_sigterm(), warnings.catch_warnings():
        show_warnings_plainly()
        try:
            command = typer.main.get_command(application(wanted))
            code = command.main(args=args, prog_name="synccache", standalone_mode=False)
        except SynccacheError as error:
            note(f"error: {error}")
            return 2
        except Stopped as stopped:
            note(f"stopped; {stopped}")
            return 130
        except (KeyboardInterrupt, typer.Abort):
            code = 130
        except OSError as error:
            note(f"error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}")
            return 2
        except Exception as error:
            if not hasattr(error, "format_message"):  # a bug of ours
                raise
            note(f"error: {error.format_message()}")  # wrong usage, as Typer and Click say it
            return 2
    if code == 130:
        note("stopped; nothing was written")
    return code if isinstance(code, int) else 0
