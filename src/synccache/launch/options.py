"""The options of ``synccache run``, which ``SYNCCACHE_RUN`` takes too."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from ..core.pace import speed_of
from ..errors import InputError
from ..written import read, settings_from

USAGE = "synccache run [options] -- SCRIPT [arguments]\n       synccache run [options] -- -m MODULE [arguments]"
EXAMPLES = """Examples:
  synccache run --speed 3 -- generate.py --task s2v-14B --ckpt_dir ./Wan2.2-S2V-14B --image me.png --audio hello.wav
  torchrun --nproc-per-node 8 -m synccache run --speed 3 -- generate.py --task s2v-14B --ulysses_size 8 ...
  synccache run --method dbcache --report out/ -- -m my_package.infer --prompt "a dog"

Where a script starts others, put "import synccache.auto" at the top of the inner one, and these options into the
environment variable SYNCCACHE_RUN.
"""


@dataclass(frozen=True)
class Options:
    """What is attached to what, and what is said of it.

    Attributes:
        method: a method's name; None: the default one of the model, for a ``speed``.
        settings: of the method, ``speed``, ``steps`` and ``mask`` included.
        include: names of classes to attach to although nothing is known of them; their blocks are found by structure.
        strict: whether to exit with code 3 where there was no transformer to attach to.
        report: the folder for trace, plot and summary.
        command: the script or module with its arguments.
    """

    method: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    include: tuple[str, ...] = ()
    strict: bool = False
    report: Path | None = None
    command: tuple[str, ...] = ()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message[:1].upper()}{message[1:]}. See 'synccache run --help'.")


def parser() -> argparse.ArgumentParser:
    found = _Parser(
        prog="synccache run", usage=USAGE, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run a Python script or module unchanged, with a cache on the video transformers that it calls.",
    )  # fmt: skip
    add = found.add_argument
    add("--speed", metavar="X", help="how many times faster: 3, or quality (2), balanced (3), fast (4)")
    add("--method", metavar="NAME", help="a method of 'synccache methods'; 'none' computes every step")
    add("--set", metavar="NAME=VALUE", action="append", default=[], help="a setting of the method; repeatable")
    add("--mask", metavar="PNG", help="where the person is: white on black")
    add("--steps", metavar="N", type=int, help="steps of a run, where the script doesn't show how many there are")
    add("--include", metavar="CLASS", action="append", default=[],
        help="also attach to this class, whose blocks are then found by structure; repeatable")  # fmt: skip
    add("--strict", action="store_true", help="exit with code 3 if there was no transformer to attach to")
    add("--report", metavar="DIR", type=Path, help="write trace, plot and a summary into this folder")
    add("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return found


def read_options(arguments: Sequence[str], needs_command: bool = True) -> Options:
    """Options from a command line, up to the script and its arguments.

    Raises:
        InputError: an option is unknown, or its value can't be used; or there is no script and one is needed.
    """
    given = parser().parse_args(list(arguments))
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    if needs_command and (not command or command in (["-m"], ["-c"])):
        raise InputError("There is no script to run. Give it behind the options: synccache run --speed 3 -- infer.py")
    numbers = {"speed": None if given.speed is None else read(given.speed), "steps": given.steps, "mask": given.mask}
    settings = settings_from(given.set, **numbers)
    if given.method is None and not {"speed", "threshold", "computed_steps"} & set(settings):
        settings["speed"] = "balanced"
    if "speed" in settings:
        speed_of(settings["speed"])
    method = None if given.method is None else given.method.lower()
    return Options(method, settings, tuple(given.include), given.strict, given.report, tuple(command))


def check(options: Options) -> None:
    """Refuse a script that isn't there, a report that can't be written, and a method that there isn't.

    Raises:
        InputError: says what was looked for.
    """
    first = options.command[0]
    if first.startswith("-") and first not in ("-m", "-c"):
        raise InputError(f"{first} is no option of 'synccache run'. Put its options before --, the script behind it.")
    if first not in ("-m", "-c") and not Path(first).exists():
        raise InputError(f"There is no script {first}. Give a path, or -m and a module's name.")
    check_attaching(options)


def check_attaching(options: Options) -> None:
    """Refuse a report that can't be written, and a method that there isn't.

    Raises:
        InputError: says what was looked for.
    """
    from ..methods import find  # torch comes with it

    make_folder(options.report)
    if options.method is not None:
        find(options.method)


def make_folder(folder: Path | None) -> None:
    """Make the folder for a report, if there is to be one.

    Raises:
        InputError: it can't be made, or written into.
    """
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {folder} can't be made ({error.strerror}). Choose another.") from None
    if not os.access(folder, os.W_OK):
        raise InputError(f"The folder {folder} can't be written into. Choose another.")
