"""The start of a call: arguments by name, and whether the cache may act on it at all."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..errors import Conflict
from .anatomy import bind, original_class, tensors_in
from .call import Call
from .decide import locate

if TYPE_CHECKING:
    from .engine import Engine


def begin(engine: Engine, expert: int, args: tuple, kwargs: dict[str, Any]) -> Call | None:
    """Open a call of a transformer, placed in its run where the timestep is on the host already.

    Returns None where the call is not understood, or autograd records it: the model then runs untouched. What the
    anatomy forces is written into ``kwargs``, which are this call's own.
    """
    model, anatomy = engine.models[expert], engine.structures[expert].anatomy
    bound = bind(original_class(model), args, kwargs)
    _force(engine, model, bound, kwargs, anatomy.forced)
    missing = [n for n in (anatomy.timestep, anatomy.latent) if bound.get(n) is None]
    if missing:
        text = (
            f"{original_class(model).__name__} was called without {missing[0]!r}, so this call is computed. Pass "
            "anatomy=Anatomy(..., timestep=..., latent=...) with the names of the model's arguments."
        )
        engine.notices.say("arguments", text)
        return None
    if torch.is_grad_enabled() and _needs_gradients(model, bound):
        text = "Autograd is recording, so every step is computed. Call the model under torch.no_grad() to skip."
        engine.notices.say("autograd", text)
        return None
    engine.mask.called_with(anatomy.mask(bound) if anatomy.mask is not None else None)
    call = Call(engine.session(), expert, bound, anatomy.timestep, anatomy.latent)
    call.label = engine.branch_name if engine.branch_name is not None else _comfy_label(bound)
    call.read_timestep(bound[anatomy.timestep])
    if call.pending is not None and (not engine.shared or engine.method.gate.probe == 0):
        call.arrive(float(call.pending))
    if call.pending is None:
        locate(engine, call)
    return call


def _force(
    engine: Engine, model: nn.Module, bound: dict[str, Any], kwargs: dict[str, Any], forced: Mapping[str, Any]
) -> None:
    """Give the forward the ``forced`` values of arguments that it was called with.

    Raises:
        Conflict: such an argument was given by position.
    """
    for name, value in forced.items():
        if name not in bound or bound[name] == value:
            continue
        said = f"{original_class(model).__name__} was called with {name}={bound[name]!r}"
        if name not in kwargs:
            raise Conflict(f"{said} by position, where it can't be overruled. Pass {name} by keyword.")
        text = f"{said}; while synccache is attached it gets {value!r} instead. remove() gives the caller its say back."
        engine.notices.say(f"forced {name}", text)
        bound[name] = kwargs[name] = value


def _needs_gradients(model: nn.Module, bound: Mapping[str, Any]) -> bool:
    inputs = any(t.requires_grad for t in tensors_in(list(bound.values())))
    return inputs or any(p.requires_grad for p in model.parameters())


def _comfy_label(bound: Mapping[str, Any]) -> Hashable:
    """ComfyUI names the conditionings that a call carries."""
    options = bound.get("transformer_options")
    if isinstance(options, dict) and options.get("uuids"):
        return tuple(map(str, options["uuids"]))
    return None
