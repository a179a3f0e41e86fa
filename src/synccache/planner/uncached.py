"""One run of a model that computes every step while somebody watches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..api import apply
from ..core.method import Method
from ..errors import InputError
from ..handle import Handle

Watch = Callable[[Handle], None]


def uncached(target: Any, call: Callable[[], Any], method: Method, watch: Watch, **given: Any) -> Handle:
    """Run ``call`` once with ``method`` attached, which skips nothing, and take it off again.

    Args:
        target: as for ``apply``; a cache of ours that is attached is replaced.
        call: runs the pipeline once.
        watch: sets the handle's ``on_store`` and ``on_step``, before the run.
        given: settings, as for ``apply``.

    Raises:
        InputError: ``call`` made no step of the model, or only one.
    """
    handle = apply(target, method, **given)
    watch(handle)
    try:
        with torch.no_grad():
            call()
    finally:
        handle.remove()
    made = len(handle.trace.steps(0)) if handle.trace.records else 0
    if made < 2:
        raise InputError(f"The profiled call made {made} steps of the model; at least 2 are needed.")
    return handle
