"""The command line: thin commands over the public functions, one file each."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from .. import __version__
from ..errors import SynccacheError
from . import animate, bench, demo, methods, plan, portrait_eval, portrait_train
from .console import Stopped, note, say, show_warnings_plainly

app = typer.Typer(
    name="synccache",
    help="Faster diffusion-transformer video, with lips still in sync.",
    epilog="Start with: synccache demo",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS: dict[str, tuple[Any, str]] = {
    "demo": (demo.demo, demo.EXAMPLES),
    "animate": (animate.animate, animate.EXAMPLES),
    "methods": (methods.methods, methods.EXAMPLES),
    "plan": (plan.plan, plan.EXAMPLES),
    "bench": (bench.bench, bench.EXAMPLES),
    "portrait-train": (portrait_train.portrait_train, portrait_train.EXAMPLES),
    "portrait-eval": (portrait_eval.portrait_eval, portrait_eval.EXAMPLES),
}
for _name, (_function, _examples) in COMMANDS.items():
    app.command(_name, epilog=_examples)(_function)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"synccache {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        say(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code: 0, 2 for what the user should change, 130 after Ctrl-C."""
    command = typer.main.get_command(app)
    with warnings.catch_warnings():
        show_warnings_plainly()
        try:
            args = list(sys.argv[1:] if arguments is None else arguments)
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
