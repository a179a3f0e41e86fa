"""Calls of ``synccache`` and ``torchrun`` from the pages, run as they stand but for sizes."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import subprocess
import sys
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import typer
from on_the_cpu import patch, tiny_models_are_slow
from shell import Call

from synccache.cli import COMMANDS, application, main

HERE = Path(__file__).parent
# What is made smaller, by option: 8 ranks become 2, and runs get shorter.
SMALLER = {"--nproc-per-node": ("8", "2"), "--nproc_per_node": ("8", "2"), "--ulysses_size": ("8", "2"),
           "--infer-steps": ("50", "12")}  # fmt: skip
ANIMATE = ["--model", "tiny.safetensors", "--size", "64", "--steps", "8", "--no-crop"]
RUN_WHOLE = ("animate", "inspect", "methods")  # others take minutes: their options are read


def smaller(arguments: tuple[str, ...]) -> list[str]:
    """The same arguments with the numbers of ``SMALLER``."""
    found = list(arguments)
    for at, (name, value) in enumerate(pairwise(arguments), start=1):
        if name in SMALLER and value == SMALLER[name][0]:
            found[at] = SMALLER[name][1]
    return found


@contextlib.contextmanager
def process_of(call: Call) -> Iterator[io.StringIO]:
    """Inside, this process has the folder and the variables of ``call``; afterwards nothing is left of it."""
    before, modules, path, argv = dict(os.environ), set(sys.modules), list(sys.path), list(sys.argv)
    folder, hook, said = Path.cwd(), sys.excepthook, io.StringIO()
    os.chdir(call.folder)
    os.environ.update(call.environment)
    sys.path[:0] = ["", *call.environment.get("PYTHONPATH", "").split(os.pathsep)]
    try:
        with contextlib.redirect_stderr(said), warnings.catch_warnings():
            tiny_models_are_slow()
            yield said
    finally:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(before)
        sys.path[:], sys.argv[:], sys.excepthook = path, argv, hook
        for name in set(sys.modules) - modules:  # the releases' packages share names
            file = getattr(sys.modules[name], "__file__", None)
            if file is not None and Path(file).is_relative_to(call.folder):
                del sys.modules[name]


def run_synccache(call: Call) -> None:
    """``synccache ...`` in this process."""
    arguments = smaller(call.arguments)
    command = arguments[0]
    if command not in ("run", *RUN_WHOLE):
        assert command in COMMANDS, f"synccache {command}"
        read_only(command, arguments[1:])
        return
    more = ANIMATE if command == "animate" else []
    with process_of(call) as said:
        assert main([*arguments, *more]) in (0, None), said.getvalue()
    if command == "run":
        check_said(said.getvalue())


def read_only(command: str, arguments: list[str]) -> None:
    """The options of a command that is not run."""
    try:
        typer.main.get_command(application(COMMANDS)).commands[command].make_context(command, arguments)
    except Exception as error:
        raise AssertionError(f"synccache {command} {' '.join(arguments)}: {error}") from error


def check_said(said: str) -> None:
    assert "steps computed" in said and "nothing was attached" not in said, said


def start(call: Call, *command: str) -> str:
    """A process of its own; what it said."""
    paths = [call.environment.get("PYTHONPATH", ""), str(HERE), str(HERE.parent), *sys.path]
    environment = {
        **os.environ, **call.environment, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, *command], cwd=call.folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def run_torchrun(call: Call) -> None:
    """``torchrun -m synccache run``, with two ranks; or a page's own script, which prints the trace at its end."""
    arguments = smaller(call.arguments)
    if "synccache" in arguments:
        check_said(start(call, "-m", "torch.distributed.run", "--standalone", *arguments))
        return
    from torch.distributed.run import parse_args
    from torch.multiprocessing import start_processes

    given = parse_args(arguments)
    assert given.nproc_per_node == "2" and not given.training_script_args
    # Two processes that have diffusers already; to import it takes each of them six seconds.
    method = "fork" if sys.platform == "linux" else "spawn"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads, which wait
        start_processes(on_a_rank, (str(call.folder), given.training_script), 2, start_method=method)
    assert "latest run: #" in (call.folder / "said.0").read_text(encoding="utf-8")


def on_a_rank(rank: int, folder: str, script: str) -> None:
    """What one of two processes does."""
    warnings.simplefilter("default")  # as in a process that a user starts
    os.chdir(folder)
    with open(f"said.{rank}", "w", encoding="utf-8") as said, contextlib.redirect_stdout(said):
        patch(rank, ranks=2, store=Path(folder) / "store")
        runpy.run_path(script, run_name="__main__")


def run_python(call: Call) -> None:
    """``python -m venv``, ``python -m pip`` and ``python -m synccache``; or a script, in a process of its own."""
    if call.arguments[:2] == ("-m", "venv"):
        assert call.arguments[2:] == (".venv",)
    else:
        check_said(start(call, *smaller(call.arguments)))
