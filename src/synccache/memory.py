"""How the program's memory is managed."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD = -3, -1, -2  # malloc.h


def keep_freed_memory() -> None:
    """Have glibc keep the buffers that tensors leave behind, instead of returning each to the system.

    Every layer of a step asks for the same sizes as in the step before; where a fresh page is dear, as in small virtual
    machines, faulting them in anew takes longer than the arithmetic. Other C libraries are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not glibc
        return
    for option, value in ((MMAP_THRESHOLD, 32 << 20), (TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, 256 << 20)):
        mallopt(option, value)


def free_bytes(device: torch.device) -> int | None:
    """How many bytes can be had on a device without anything being moved away; None where nothing tells."""
    if device.type == "cuda":
        import torch

        free = torch.cuda.mem_get_info(device)[0]
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    try:
        lines = Path("/proc/meminfo").read_text().splitlines() if device.type == "cpu" else []
    except OSError:
        return None
    found = [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found else None
