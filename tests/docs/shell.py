"""A page's shell blocks. bash itself reads a block, and every program that it calls only notes how it was called; what
was noted is then run, or, where that needs a network or minutes, compared with what there is.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parents[1] / "launch" / "scripts"
RELEASES = {"Wan2.2": "wan22", "HunyuanVideo-Avatar": "avatar"}
COMMITS = {"Wan2.2": "42bf4cf", "HunyuanVideo-Avatar": "fd59436"}  # that the stand-ins were read from
PROGRAMS = ("git", "hf", "make", "pip", "python", "python3", "synccache", "torchrun")
NOTE = """#!{bash}
n=0; while [ -e "$NOTES/$n.argv" ]; do n=$((n + 1)); done
{env} -0 > "$NOTES/$n.env"
printf '%s\\0' "$PWD" "${{0##*/}}" "$@" > "$NOTES/$n.argv"
if [ "${{0##*/}} $1" = "git clone" ]; then
    name="${{2##*/}}"; name="${{3:-${{name%.git}}}}"; mkdir -p "$name"
    [ ! -d "$RELEASES/$name" ] || cp -R "$RELEASES/$name/." "$name"
fi
"""


@dataclass(frozen=True)
class Call:
    """How a program was called."""

    folder: Path
    environment: dict[str, str]
    program: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join((self.program, *self.arguments))


class Shell:
    """A folder with programs that note their calls, also where a virtual environment would have them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.notes, self.releases = folder / "work", folder / "notes", folder / "releases"
        self.programs = folder / "bin"
        for made in (self.notes, self.programs, self.folder / ".venv"):
            made.mkdir(parents=True)
        for name, stand_in in RELEASES.items():
            shutil.copytree(SCRIPTS / stand_in, self.releases / name)
        bash, env = _found("bash"), _found("env")
        for name in PROGRAMS:
            (self.programs / name).write_text(NOTE.format(bash=bash, env=env), encoding="utf-8")
            (self.programs / name).chmod(0o755)
        for name in ("cp", "mkdir", "sed"):
            (self.programs / name).symlink_to(_found(name))
        (self.folder / ".venv" / "bin").symlink_to(self.programs)
        (self.folder / "synccache").symlink_to(ROOT)  # the checkout that the pages copy from

    def calls(self, block: str) -> list[Call]:
        """What a block calls. It goes on in the folder where the block before it ended."""
        for note in self.notes.iterdir():
            note.unlink()
        environment = {"PATH": str(self.programs), "NOTES": str(self.notes), "RELEASES": str(self.releases)}
        text = f'set -eu\n{block}\npwd > "$NOTES/folder"\n'
        done = subprocess.run(
            [_found("bash"), "-c", text], cwd=self.folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{done.stderr}\n{block}"
        self.folder = Path((self.notes / "folder").read_text(encoding="utf-8").strip())
        return [self._call(number) for number in range(len(list(self.notes.glob("*.argv"))))]

    def _call(self, number: int) -> Call:
        folder, program, *arguments = _fields(self.notes / f"{number}.argv")
        variables = dict(line.split("=", 1) for line in _fields(self.notes / f"{number}.env"))
        own = ("PATH", "NOTES", "RELEASES", "PWD", "OLDPWD", "SHLVL", "_")
        return Call(Path(folder), {k: v for k, v in variables.items() if k not in own}, program, tuple(arguments))


def _found(name: str) -> str:
    path = shutil.which(name)
    assert path is not None, f"{name} is needed to read the pages' shell blocks"
    return path


def _fields(note: Path) -> list[str]:
    return note.read_text(encoding="utf-8").split("\0")[:-1]


# -- calls that aren't run: what they name has to be there ------------------------------------------------------------

PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
EXTRAS = set(re.findall(r"^(\w+) = \[", PROJECT.partition("[project.optional-dependencies]")[2], re.MULTILINE))
TARGETS = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
KNOWN = {"torch", "diffusers==0.42.1", "transformers", "accelerate", "av", "numpy<2"}  # beside synccache


def check_pip(arguments: tuple[str, ...]) -> None:
    """``pip install`` of this project with extras that there are, or of packages that the pages may name."""
    assert arguments[0] == "install", arguments
    for given in arguments[1:]:
        own = re.fullmatch(r"(?:\.|(?:\.{1,2}/)+synccache)(?:\[(\w+(?:,\w+)*)\])?", given)
        assert own or given in KNOWN or given.startswith("--"), f"pip install {given}"
        if own and own[1]:
            assert set(own[1].split(",")) <= EXTRAS, f"{given}: there is no such extra"


def check_git(arguments: tuple[str, ...]) -> None:
    """A clone of a repository that there is, and the commit of it that the stand-in was read from."""
    if arguments[0] == "clone":
        assert re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+?(\.git)?", arguments[1]), arguments
        return
    kind, name, checkout, commit = arguments
    assert (kind, checkout) == ("-C", "checkout") and COMMITS[name] == commit, arguments


def check_make(arguments: tuple[str, ...]) -> None:
    assert arguments and set(arguments) <= TARGETS, f"make {' '.join(arguments)}: no such target"


def check_download(arguments: tuple[str, ...]) -> None:
    assert re.fullmatch(r"download [\w.-]+/[\w.-]+ --local-dir [\w./-]+", " ".join(arguments)), arguments


def check_copy(arguments: tuple[str, ...]) -> None:
    """xcopy of a folder in the checkout."""
    *_, source, _ = arguments
    assert source.startswith("synccache/") and (ROOT / source.removeprefix("synccache/")).is_dir(), arguments


CHECKED = {"pip": check_pip, "git": check_git, "make": check_make, "hf": check_download, "xcopy": check_copy}


def windows_calls(block: str) -> list[tuple[str, ...]]:
    """The commands of a block for cmd.exe: one a line."""
    lines = [re.sub(r"^(\.venv\\Scripts|python_embeded)\\", "", line) for line in block.splitlines() if line.strip()]
    lines = [re.sub(r"^(py|python\.exe) ", "python ", line).replace("\\", "/") for line in lines]
    return [tuple(shlex.split(line)) for line in lines]
