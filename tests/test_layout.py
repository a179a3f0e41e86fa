"""Where things stand: imports point one way and never in a circle, the engine is small and knows no method."""

import ast
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

import synccache
from synccache.methods import RECIPES

SOURCE = Path(synccache.__file__).parent
FILES = {
    ".".join(("synccache", *f.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__"): f
    for f in SOURCE.rglob("*.py")
}
TREES = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in FILES.items()}

# Each part may import what stands above it, and nothing beside it. Parts that aren't listed stand below all of these.
ORDER = (
    ("defaults", "errors", "memory", "lazily"),
    ("extras", "files"),
    ("documents", "media", "sampling", "trace"),
    ("core",),
    ("gates", "scopes", "forecasters", "anatomies", "conflicts"),
    ("engine",),
    ("handle", "methods", "targets"),
    ("profiles",),
    ("api",),
)
LEVEL = {part: level for level, parts in enumerate(ORDER) for part in parts}
BELOW = len(ORDER)


def imported(name):
    """Names of all modules that a file imports anywhere in it, also in functions and for type checkers only."""
    package = name.split(".") if FILES[name].name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            inside = [f"{module}.{alias.name}" for alias in node.names if f"{module}.{alias.name}" in FILES]
            yield from inside
            if len(inside) < len(node.names):
                yield module


EDGES = {name: {found for found in imported(name) if found in FILES and found != name} for name in FILES}


def part_of(name):
    return (name.split(".")[1:] or [""])[0]


def circles(edges):
    """Sets of files that all import each other in the end: strongly connected components of more than one."""
    number, lowest, stack, found, numbers = {}, {}, [], [], count()

    def visit(name):
        number[name] = lowest[name] = next(numbers)
        stack.append(name)
        for other in edges[name]:
            if other not in number:
                visit(other)
            if other in stack:
                lowest[name] = min(lowest[name], lowest[other])
        if lowest[name] == number[name]:
            at = stack.index(name)
            together = stack[at:]
            del stack[at:]
            if len(together) > 1:
                found.append(sorted(together))

    for name in edges:
        if name not in number:
            visit(name)
    return found


def test_circles_are_found():
    edges = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"e"}, "e": {"d"}, "f": {"a", "e"}}
    assert sorted(circles(edges)) == [["a", "b", "c"], ["d", "e"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_imports_are_seen():
    """Of a file, of a package, of names in it, in functions, for type checkers."""
    seen = EDGES["synccache.testing.checks"]
    assert {"synccache", "synccache.anatomies", "synccache.testing.calling", "synccache.gates"} <= seen
    assert sum(map(len, EDGES.values())) > len(FILES)


def test_no_files_import_each_other():
    assert circles(EDGES) == []


@pytest.mark.parametrize("part", LEVEL)
def test_imports_point_one_way(part):
    upward = {
        f"{name} -> {other}"
        for name, others in EDGES.items()
        for other in others
        if part_of(name) == part != part_of(other) and LEVEL.get(part_of(other), BELOW) >= LEVEL[part]
    }
    assert any(part_of(name) == part for name in FILES) and not upward


@pytest.mark.parametrize("part", [p for p in LEVEL if p not in ("media", "trace")])
def test_the_core_needs_torch_alone(part):
    """And safetensors to store what was learnt; pictures as masks are read, and traces drawn, where somebody asks."""
    allowed = {"torch", "safetensors", "numpy", "PIL", "synccache", *sys.stdlib_module_names}
    assert {m.split(".")[0] for name in FILES if part_of(name) == part for m in imported(name)} <= allowed


def test_the_engine_is_small():
    """All its lines: blank ones, comments and docstrings too."""
    lengths = {n: len(f.read_text(encoding="utf-8").splitlines()) for n, f in FILES.items() if part_of(n) == "engine"}
    assert sum(lengths.values()) <= 3100, lengths


# Words of the language, or the package's.
WORDS = {"synccache", "none", "linear", "interval", "schedule", "asymmetric", "first-block", "fewer-steps"}


def words_in(tree):
    """All names and strings in a file's code; what stands alone as a statement is a docstring."""
    fields = ("id", "attr", "arg", "name", "asname", "module")
    prose = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in prose:
            yield node.value
        yield from (getattr(node, field) for field in fields if isinstance(getattr(node, field, None), str))


@pytest.mark.parametrize("file", [name for name in FILES if part_of(name) == "engine"])
def test_the_engine_names_no_method(file):
    """That none is treated unlike another under its name, ``contract/test_every_method.py`` shows by running it."""
    text = " ".join(words_in(TREES[file])).lower()
    plain = "".join(c if c.isalnum() else " " for c in text)
    named = {n for n in RECIPES if n not in WORDS and f" {n.replace('-', ' ')} " in f" {' '.join(plain.split())} "}
    assert not named


@pytest.mark.parametrize("name", RECIPES)
def test_a_method_is_one_short_file(name):
    module = f"synccache.methods.{name.replace('-', '_')}"
    assert RECIPES[name].build.__module__ == module and len(FILES[module].read_text().splitlines()) <= 120


def test_the_toys_need_no_test_runner():
    code = "import sys, synccache.testing; sys.exit(not {'pytest', 'hypothesis', 'diffusers'}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
