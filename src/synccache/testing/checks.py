"""What has to hold for a model and its anatomy, each check failing with one sentence that says what is wrong.

All run the model on the inputs of one call, without gradients, in eval mode or whatever it is in. Where ``anatomy`` is
None it is found as ``synccache.apply`` finds it.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from .. import Anatomy, Method, Notice, SynccacheError, anatomies, apply, cached
from ..forecasters import Reuse
from ..gates import Listed, Never, Probe
from ..scopes import Segments
from .calling import Inputs, Output, call, count_calls, distance, first_tensor, successive
from .watching import Look, Watching

FIRST = Method(Listed(frozenset({0})), Segments(), Reuse())  # the first step is computed, all others are filled in


def check_anatomy(
    model: nn.Module,
    anatomy: Anatomy | None,
    inputs: Inputs,
    *,
    changed: Inputs | None = None,
    live: Sequence[str] = (),
    output: Output = first_tensor,
    tolerance: float = 1e-5,
) -> None:
    """All checks of this module, in the order in which one builds on another.

    Args:
        model: the transformer.
        anatomy: what is said of it; None: as it is recognised.
        inputs: keyword arguments of one call of its forward, the timestep among them.
        changed: the same with other conditioning (other audio, say), which a skipped step has to follow; None: nothing
            stays live.
        live: dotted names of modules that must run on skipped steps as often as on computed ones.
        output: picks the tensor to compare from what the model returns; its first one by default.
        tolerance: how far a step that is filled in may be off a computed one on the same input, relative (L2). The
            default is for float32.

    Raises:
        AssertionError: the first check that doesn't hold, in one sentence.

    Example:
        >>> from synccache.testing import check_anatomy
        >>> check_anatomy(model, recognise(model), inputs, changed={**inputs, "audio": -inputs["audio"]})
    """
    known = _known(model, anatomy)
    check_never_skipping(model, known, successive(inputs, known), output=output)
    check_repeated_input(model, known, inputs, live=live, output=output, tolerance=tolerance)
    if changed is not None:
        check_changed_conditioning(model, known, inputs, changed, live=live, output=output)
    check_token_grid(model, known, inputs)
    check_removal(model, known, inputs)


@torch.no_grad()
def check_never_skipping(
    model: nn.Module, anatomy: Anatomy | None, calls: Sequence[Inputs], *, output: Output = first_tensor
) -> None:
    """``calls`` are successive steps of one run: they are seen as that, and a gate that never skips changes no bit."""
    known = _known(model, anatomy)
    plain = [output(call(model, known, inputs)) for inputs in calls]
    if not torch.equal(output(call(model, known, calls[0])), plain[0]):
        _fail("The untouched model gives another output for the same input each time: call model.eval() first.")
    for gate in (Never(), Never(Probe())):
        with _attached(model, Method(gate, Segments(), Reuse()), known) as handle:
            for number, inputs in enumerate(calls):
                found = output(call(model, known, inputs))
                if not torch.equal(found, plain[number]):
                    _fail(
                        f"With a gate that never skips, step {number} is {distance(found, plain[number]):.2g} off the "
                        "untouched model (relative), and has to be the same bit for bit."
                    )
            runs, steps = len(handle.trace.runs), len({r.step for r in handle.trace})
            if len(handle.trace) != len(calls) or (runs, steps) != (1, len(calls)):
                _fail(
                    f"{len(calls)} successive steps were seen as {steps} in {runs} runs: see whether the anatomy names "
                    f"the timestep ({known.timestep!r}) and the latent ({known.latent!r})."
                )


@torch.no_grad()
def check_repeated_input(
    model: nn.Module,
    anatomy: Anatomy | None,
    inputs: Inputs,
    *,
    live: Sequence[str] = (),
    output: Output = first_tensor,
    tolerance: float = 1e-5,
    within: int = 3,
) -> tuple[int, ...]:
    """The same input on two steps: the second, with all blocks left out that can be, equals the first to rounding.

    Args:
        within: after how many computed steps, at most, one can be filled in. It is one where all is declared.

    Returns the indices of the blocks that were left out.
    """
    known = _known(model, anatomy)
    blocks = _blocks(model, known, inputs)
    modules: dict[Hashable, nn.Module] = dict(enumerate(blocks))
    modules.update((name, model.get_submodule(name)) for name in live)
    with _attached(model, FIRST, known) as handle, count_calls(modules) as calls:
        full = output(_call_at(handle, model, known, 0, inputs))
        computed = calls.copy()
        again = _filled(handle, calls, within, lambda step: output(_call_at(handle, model, known, step, inputs)))
        if again is None:
            why = handle.trace.records[-1].reason
            _fail(f"No step could be filled in after {within} with the same input ({why}): see the anatomy's streams.")
        out = tuple(i for i in range(len(blocks)) if computed[i] and not calls[i])
        filled = {i for region in handle.regions for i in region.members}
        ran = sorted(filled - set(out))
        if ran:
            _fail(f"Blocks {ran} are to be filled in, and ran nevertheless: something calls their forward directly.")
    _check_live(live, computed, calls)
    if not distance(again, full) < tolerance:
        _fail(
            f"On the same input, a step with blocks {list(out)} left out is {distance(again, full):.2g} off the "
            f"computed one (relative; {tolerance:g} is allowed): see the anatomy's streams, breaks and fixed."
        )
    return out


@torch.no_grad()
def check_changed_conditioning(
    model: nn.Module,
    anatomy: Anatomy | None,
    inputs: Inputs,
    changed: Inputs,
    *,
    live: Sequence[str] = (),
    output: Output = first_tensor,
    within: int = 3,
) -> str:
    """Other conditioning on a step that is filled in: the output is nearer to the true one than a stale output is.

    Returns the step's decision: ``"skipped"``, or ``"computed"`` where the conditioning was seen to reach the blocks.
    """
    known = _known(model, anatomy)
    stale, true = (output(call(model, known, given)) for given in (inputs, changed))
    if not distance(stale, true) > 1e-3:
        _fail(
            f"The changed inputs move the model's own output by {distance(stale, true):.2g} only (relative), which "
            "says nothing: give conditioning that differs more."
        )
    with _attached(model, FIRST, known) as handle, count_calls({n: model.get_submodule(n) for n in live}) as calls:
        output(_call_at(handle, model, known, 0, inputs))
        computed = calls.copy()
        for step in range(1, within):  # some models are understood on a second computed step only
            if handle.trace.records[-1].decision == "computed":
                output(_call_at(handle, model, known, step, inputs))
        calls.clear()
        followed = output(_call_at(handle, model, known, within, changed))
        decision = handle.trace.records[-1].decision
    _check_live(live, computed, calls)
    off, stale_off = distance(followed, true), distance(stale, true)
    if not (off < stale_off and off < distance(followed, stale)):
        _fail(
            f"With other conditioning, a step that is {decision} is {off:.2g} off the true output (relative), where a "
            f"stale one is {stale_off:.2g} off: it reaches the blocks, so don't name it in live; or if it reaches them "
            "by none of their arguments, let those blocks be fixed."
        )
    return decision


@torch.no_grad()
def check_token_grid(model: nn.Module, anatomy: Anatomy | None, inputs: Inputs) -> None:
    """The anatomy's grid has as many tokens as there are behind its offset; nothing is checked without a grid."""
    known, seen = _known(model, anatomy), list[int]()
    if known.grid is None:
        return
    grid = known.grid(inputs)
    if grid is None:
        _fail("The anatomy's grid gives None for these inputs, so masks can't be used on them.")
    gate = Watching(frozenset({0}), Look(lambda found: _note_tokens(found, seen)))
    with _attached(model, Method(gate, Segments(), Reuse()), known):
        call(model, known, inputs)
    if seen != [math.prod(grid)]:
        first = known.first_token(0, inputs)
        _fail(
            f"The grid {tuple(grid)} has {math.prod(grid)} tokens, and block 0 has {seen[0] if seen else 0} video "
            f"tokens from token {first} on: see the anatomy's grid, offset and ahead."
        )


@torch.no_grad()
def check_removal(model: nn.Module, anatomy: Anatomy | None, inputs: Inputs) -> None:
    """``remove`` gives every module back as it was, also after an exception, and frees what was stored."""
    known = _known(model, anatomy)
    blocks = _blocks(model, known, inputs)
    call(model, known, inputs)  # what the model itself keeps from a call is there before
    before = {name: _look_of(module) for name, module in model.named_modules()}
    for broken in (False, True):
        handle = apply(model, FIRST, anatomy=known)
        hook = blocks[-1].register_forward_pre_hook(_break_off) if broken else None
        try:
            call(model, known, inputs)
        except _BrokenOff:
            pass
        finally:
            if hook is not None:
                hook.remove()
            handle.remove()
        after = {name: _look_of(module) for name, module in model.named_modules()}
        different = [name or "the model" for name in before if after.get(name) != before[name]]
        if different or len(after) != len(before):
            _fail(f"After remove() these modules aren't what they were: {', '.join(different) or 'some are new'}.")
        if handle.bytes:
            _fail(f"After remove() {handle.bytes} bytes are still held.")


# -- within the checks -----------------------------------------------------------------------------------------------


def _fail(sentence: str) -> NoReturn:
    raise AssertionError(sentence)


class _BrokenOff(Exception):
    """Raised in the middle of a call, on purpose."""


def _break_off(*_: Any) -> NoReturn:
    raise _BrokenOff


def _known(model: nn.Module, anatomy: Anatomy | None) -> Anatomy:
    return anatomy if anatomy is not None else anatomies.find(model)


def _blocks(model: nn.Module, known: Anatomy, inputs: Inputs) -> tuple[nn.Module, ...]:
    """The model's blocks; where they are only known from what they do, after they did it."""
    if known.observe is None:
        return known.blocks
    with _attached(model, FIRST, known) as handle:
        call(model, known, inputs)
        return handle.anatomy.blocks


@contextmanager
def _attached(model: nn.Module, method: Method, anatomy: Anatomy) -> Iterator[Any]:
    """A cache is attached; what it refuses to do, or has to notice, is a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        try:
            with cached(model, method, anatomy=anatomy) as handle:
                yield handle
        except (Notice, SynccacheError) as said:
            raise AssertionError(f"While the cache was attached, it said: {said}") from None


def _call_at(handle: Any, model: nn.Module, known: Anatomy, step: int, inputs: Inputs) -> Any:
    """A call that is step ``step`` of its run, whatever its timestep and latent."""
    with handle.at(step=step):
        return call(model, known, inputs)


def _filled(handle: Any, calls: Counter[Hashable], within: int, run: Callable[[int], Tensor]) -> Tensor | None:
    """The output of the first step that was filled in, with ``calls`` of that step only; None if there was none."""
    for step in range(1, within + 1):
        calls.clear()
        found = run(step)
        if handle.trace.records[-1].decision == "skipped":
            return found
    return None


def _check_live(live: Sequence[str], computed: Counter[Hashable], filled: Counter[Hashable]) -> None:
    for name in live:
        if filled[name] != computed[name] or not computed[name]:
            _fail(
                f"{name} runs {computed[name]} times on a computed step and {filled[name]} times on one that is filled "
                "in, and has to run as often on both: what it adds belongs between blocks, or its block in fixed."
            )


def _note_tokens(seen: Any, counts: list[int]) -> None:
    now = seen.tap("probe").now
    counts.append(0 if now is None else now.shape[1])


def _look_of(module: nn.Module) -> tuple[Any, ...]:
    """The module's class, the names of what it holds, and what of it decides how it is called."""
    held = {name: value for name, value in vars(module).items() if callable(value)}
    hooks = {name: list(value) for name, value in vars(module).items() if name.endswith("_hooks") and value is not None}
    return type(module), type(module).forward, sorted(vars(module)), held, hooks
