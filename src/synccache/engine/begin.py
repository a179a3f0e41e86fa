"""The start of a call: arguments by name, and whether the cache may act on it at all."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .anatomy import bind, original_class, tensors_in
from .call import Call
from .decide import locate

if TYPE_CHECKING:
    from .engine import Engine


def begin(engine: Engine, expert: int, args: tuple, kwargs: dict[str, Any]) -> Call | None:
    """Open a call of a transformer, placed in its run where the timestep is on the host already.

    Returns None where the call is not understood, or autograd records it: the model then runs untouched.
    """
    model, anatomy = engine.models[expert], engine.structures[expert].anatomy
    bound = bind(original_class(model), args, kwargs)
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
    call = Call(engine.session(), expert, bound, anatomy.timestep, anatomy.latent)
    call.label = engine.branch_name if engine.branch_name is not None else _comfy_label(bound)
    call.read_timestep(bound[anatomy.timestep])
    if call.pending is not None and (not engine.shared or engine.method.gate.probe == 0):
        call.arrive(float(call.pending))
    if call.pending is None:
        locate(engine, call)
    return call


def _needs_gradients(model: nn.Module, bound: Mapping[str, Any]) -> bool:
    inputs = any(t.requires_grad for t in tensors_in(list(bound.values())))
    return inputs or any(p.requires_grad for p in model.parameters())


def _comfy_label(bound: Mapping[str, Any]) -> Hashable:
    """ComfyUI names the conditionings that a call carries."""
    options = bound.get("transformer_options")
    if isinstance(options, dict) and options.get("uuids"):
        return tuple(map(str, options["uuids"]))
    return None
