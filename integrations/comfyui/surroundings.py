"""What else is on a model: other caches, compiled blocks, context windows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from synccache.errors import Conflict

# Wrapper keys, transformer options and functions by which caching nodes show: ComfyUI's own EasyCache and LazyCache,
# the custom nodes TeaCache, MagCache and WaveSpeed (FBCache), and ports of the others.
_CACHES = re.compile(r"easy_?cache|lazy_?cache|tea_?cache|mag_?cache|fb_?cache|di_?cache|taylor_?seer", re.IGNORECASE)
_COMPILE = "torch.compile"
_STATIC = ("standard_static", "batched")


def refuse_other_caches(model_options: Mapping[str, Any], wrappers: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that no other cache is on the model.

    Args:
        wrappers: by kind, then by key.

    Raises:
        Conflict: names what was found.
    """
    names = [key for keys in wrappers.values() for key in keys]
    names += model_options.get("transformer_options", {})
    function = model_options.get("model_function_wrapper")
    names.append(getattr(function, "__qualname__", type(function).__name__))
    found = next((name for name in names if _CACHES.search(str(name))), None)
    if found is not None:
        raise Conflict(
            f"Another cache is on this model ({found!r}), and two would each fill in what the other left out. Take its "
            "node, or SyncCache, off the model."
        )


def refuse_late_compile(wrappers: Mapping[str, Mapping[str, Any]], key: str) -> None:
    """Check that compiled blocks are in place when SyncCache hooks them; wrappers run in the order of their nodes.

    Raises:
        Conflict: the compile node comes after SyncCache.
    """
    keys = list(wrappers.get("apply_model", {}))
    if _COMPILE in keys[keys.index(key) :]:
        raise Conflict(
            "The torch compile node comes after SyncCache, so the blocks would be compiled with its hooks inside. Put "
            "SyncCache after it."
        )


def moving_windows(model_options: Mapping[str, Any], noise: Any) -> str | None:
    """Name of the context schedule, if the latent is sampled in windows that differ from step to step.

    Args:
        noise: [B, C, T, H, W].
    """
    handler = model_options.get("context_handler")
    if handler is None or noise.shape[handler.dim] <= handler.context_length:
        return None
    name = str(handler.context_schedule.name)
    return None if name in _STATIC else name
