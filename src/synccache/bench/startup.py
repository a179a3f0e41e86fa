"""How long the command line takes to start: ``python -m synccache.bench.startup`` prints a table.

Each command runs in a process of its own, a few times after one to warm the file cache; seconds are wall-clock.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time

COMMANDS: dict[str, tuple[str, ...]] = {
    "import synccache": ("-c", "import synccache"),
    "synccache --version": ("-m", "synccache", "--version"),
    "synccache --help": ("-m", "synccache", "--help"),
    "synccache animate --help": ("-m", "synccache", "animate", "--help"),
    "synccache animate --image nosuch.png ...": (
        *("-m", "synccache", "animate", "--image", "nosuch.png", "--audio", "nosuch.wav", "--out", "x.mp4"),
    ),
    "synccache methods": ("-m", "synccache", "methods"),
    "synccache methods hicache": ("-m", "synccache", "methods", "hicache"),
    "import torch (for comparison)": ("-c", "import torch"),
}
RUNS = 5


def seconds(arguments: tuple[str, ...], runs: int = RUNS) -> list[float]:
    """Wall-clock seconds of each of ``runs`` processes, after one that isn't counted."""
    found = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        found.append(time.perf_counter() - started)
    return found[1:]


def main() -> None:
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"median (fastest to slowest) seconds of {RUNS} warm starts\n")
    for name, arguments in COMMANDS.items():
        each = seconds(arguments)
        print(f"{name:42} {statistics.median(each):5.2f}  ({min(each):.2f} to {max(each):.2f})")


if __name__ == "__main__":
    main()
