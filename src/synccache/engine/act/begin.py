"""The start of a call: arguments by name, whether the cache may act on it at all, and what it shows of its place."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch

from ...core.anatomy import bind, original_class, tensors_in
from ...core.fit import check_call
from ...errors import Conflict
from ..engine import Engine, Expert
from ..place.conditioning import Mark, Prints
from ..place.latents import compared, likeness
from ..place.schedule import Time
from ..place.told import told_to
from .call import Call
from .locate import locate

_ROUNDING = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-10}


def begin(engine: Engine, expert: Expert, args: tuple, kwargs: dict[str, Any]) -> Call | None:
    """Open a call of a transformer; it is placed in its run already where that takes no number from the device.

    Returns None where autograd records the call: the model then runs untouched. What the anatomy forces is written into
    ``kwargs``, which are this call's own.

    Raises:
        InputError: the model is called without its timestep or its latent.
    """
    model, anatomy = expert.model, expert.structure.anatomy
    bound = bind(original_class(model), args, kwargs)
    _force(engine, expert, bound, kwargs)
    check_call(original_class(model), anatomy, bound)
    inputs = tensors_in(list(bound.values()))
    if torch.is_grad_enabled() and any(t.requires_grad for t in chain(inputs, model.parameters())):
        text = "Autograd is recording, so every step is computed. Call the model under torch.no_grad() to skip."
        engine.notices.say("autograd", text)
        return None
    engine.mask.called_with(anatomy.mask(bound) if anatomy.mask is not None else None)
    told, options = told_to(engine), bound.get("transformer_options")
    uuids = options.get("uuids") if isinstance(options, dict) else None  # ComfyUI's, of the conditionings in the call
    label = tuple(map(str, uuids)) if told.branch is None and uuids else told.branch
    call = Call(engine, expert, engine.session(told), bound, told, label)
    _read_time(call, bound[anatomy.timestep])
    _look_at_latents(call)
    _look_at_conditioning(call)
    if not call.wanted:
        locate(call)
    return call


def _force(engine: Engine, expert: Expert, bound: dict[str, Any], kwargs: dict[str, Any]) -> None:
    """Give the forward the values that the anatomy forces, of arguments that it was called with.

    Raises:
        Conflict: such an argument was given by position.
    """
    for name, value in expert.structure.anatomy.forced.items():
        if name not in bound or bound[name] == value:
            continue
        said = f"{original_class(expert.model).__name__} was called with {name}={bound[name]!r}"
        if name not in kwargs:
            raise Conflict(f"{said} by position, where it can't be overruled. Pass {name} by keyword.")
        text = f"{said}; while synccache is attached it gets {value!r} instead. remove() gives the caller its say back."
        engine.notices.say(f"forced {name}", text)
        bound[name] = kwargs[name] = value


def _read_time(call: Call, value: Any) -> None:
    """Find the call's timesteps; those on the device are wanted, unless they are the last call's very tensors."""
    tensors, clock = tensors_in(value), call.session.clock
    if not tensors:
        numbers = [float(v) for v in (value if isinstance(value, list | tuple) else [value])]
        call.time = Time(max(numbers), sum(numbers) / len(numbers), min(numbers))
        return
    marks, time = clock.read
    pairs = zip(marks, tensors, strict=False)
    if len(marks) == len(tensors) and all(m.version is not None and m.is_of(t) for m, t in pairs):
        call.time = time
        return
    marks, rounding = [Mark(t) for t in tensors], _ROUNDING.get(tensors[0].dtype, 0.0)

    def arrive(values: list[float]) -> None:
        high, mean, low = values
        call.time = Time(high, mean, low, rounding)
        clock.read = marks, call.time

    flat = torch.cat([t.detach().reshape(-1) for t in tensors]) if len(tensors) > 1 else tensors[0].detach().reshape(-1)
    if flat.numel() == 1 and flat.device.type == "cpu":
        arrive([float(flat)] * 3)
        return
    flat = flat.float()
    call.want(torch.stack([flat.max(), flat.mean(), flat.min()]), arrive)


def _look_at_latents(call: Call) -> None:
    """Ask how the latent differs from the step's, where that isn't plain."""
    clock, told, now, before = call.session.clock, call.told, call.latents, call.session.clock.latents
    if before is not None:
        named = call.label is not None and all(b.label != call.label for b in clock.called)
        same_step = call.time == clock.time if told.step is None else told.step == clock.step
        if now.is_seen(before) or (named and same_step):
            return
    call.sample, sample = now.sample(), clock.sample
    if before is None or sample is None or told.step not in (None, clock.step):
        return
    if before.batch == now.batch and sample.shape == call.sample.shape:
        count = call.sample.numel()

        def arrive(sums: list[float]) -> None:
            call.likeness = likeness(sums, count)

        call.want(compared(call.sample, sample.to(call.sample.device)), arrive)


def _look_at_conditioning(call: Call) -> None:
    """Ask for numbers of the conditioning, where its objects don't tell that it is a branch's of old."""
    branches = call.session.clock.branches
    if not branches or any(b.is_exactly(call.conditioning) for b in branches):
        return
    call.prints = Prints(call.conditioning.compared)
    for prints in (call.prints, *(b.prints for b in branches)):
        if prints.unread is not None:
            call.want(prints.unread, prints.arrive)
