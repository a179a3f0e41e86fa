"""Refusing models on which another cache, or a whole-model compile, already sits."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from .core.anatomy import original_class
from .errors import Conflict

# Names that the hooks of diffusers' caches are registered under (diffusers/hooks/*.py, 0.35 to 0.42).
_DIFFUSERS_HOOKS = ("faster_cache", "fbc_", "mag_cache", "pyramid_", "sea_cache", "taylorseer", "text_kv_cache")
# Switches that the methods' released code sets on the model or its class.
_SWITCH = re.compile(r"^(enable|use|is)_?(teacache|magcache|easycache|dicache|taylorseer|sencache|adacache|fora)$")
_TEACACHE_STATE = ("cnt", "num_steps", "rel_l1_thresh")


def refuse_if_occupied(model: nn.Module, pipeline: Any = None) -> None:
    """Check that nothing else caches or compiles ``model`` as a whole.

    Raises:
        Conflict: names what was found and how to switch it off.
    """
    cls = original_class(model)
    name = cls.__name__
    if "_orig_mod" in model._modules or getattr(model, "_compiled_call_impl", None) is not None:
        raise Conflict(
            f"{name} is compiled as a whole, and a compiled graph can't leave blocks out. Compile its repeated blocks "
            "instead (model.compile_repeated_blocks(), or block.compile() for each) and apply synccache to the model."
        )
    if getattr(model, "_cache_config", None) is not None:
        found = type(model._cache_config).__name__
        raise Conflict(f"diffusers' {found} is enabled on {name}. Call model.disable_cache() first.")
    for module in model.modules():
        registry = getattr(module, "_diffusers_hook", None)
        hooks = [h for h in getattr(registry, "hooks", {}) if str(h).startswith(_DIFFUSERS_HOOKS)]
        if hooks:
            raise Conflict(f"{name} carries diffusers' cache hook {hooks[0]!r}. Call model.disable_cache() first.")
    for owner in (model, pipeline):
        if owner is not None and getattr(owner, "_is_cached", False):
            raise Conflict(
                f"{type(owner).__name__} is marked _is_cached (cache-dit, ParaAttention). Undo that first, with "
                "cache_dit.disable_cache(pipe) or by loading the pipeline anew."
            )
    for attribute in dir(cls) + list(vars(model)):
        if _SWITCH.match(attribute) and getattr(model, attribute, None) is True:
            raise Conflict(f"{name}.{attribute} is on: another cache's code runs in this model. Set it to False first.")
    if all(hasattr(model, attribute) for attribute in _TEACACHE_STATE):
        found = ", ".join(_TEACACHE_STATE)
        raise Conflict(f"{name} has {found}, as TeaCache's patch leaves them. Load the model anew without it.")


def refuse_newcomer(model: nn.Module) -> None:
    """Check that no other cache was enabled since synccache was attached.

    Raises:
        Conflict: names it and says how to take either off.
    """
    cache = getattr(model, "_cache_config", None)
    if cache is not None or getattr(model, "_is_cached", False):
        found = type(cache).__name__ if cache is not None else "another cache"
        raise Conflict(
            f"synccache is attached to this {original_class(model).__name__}, and {found} was enabled on it. Take "
            "that off (model.disable_cache(), cache_dit.disable_cache(pipe)), or synccache.remove(model) first."
        )


def refuse_compiled(name: str, inside: str) -> None:
    """Traced through, a decision would be frozen into the graph, or compiled anew on every step.

    Raises:
        Conflict: always.
    """
    if inside:
        raise Conflict(
            f"synccache is attached to the {name} inside {inside} that was compiled, and a compiled graph can't leave "
            "a part of itself out. Choose a method that leaves out whole blocks, or don't compile them."
        )
    raise Conflict(
        f"synccache is attached to this {name}, which is part of something larger that was compiled, and a compiled "
        "graph can't leave blocks out. Compile the repeated blocks in place instead: model.compile_repeated_blocks(), "
        "or block.compile() for each."
    )
