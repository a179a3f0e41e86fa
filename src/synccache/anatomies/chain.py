"""Which modules hand the main stream from one to the next, as one computed call showed it."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from ..core.anatomy import Visit

STREAMS = ("hidden_states", "x", "img", "hidden", "sample", "tokens")


@dataclass(frozen=True, eq=False)
class Glance:
    """What it takes to know a tensor again: which object it was, and four channels of each token.

    Attributes:
        tensor: weak reference; those of one tensor are one object, also when it is gone.
        shape: [..., D].
        rows: [tokens, 4], on the CPU; [0, 4] for a tensor that is no stream.
    """

    tensor: weakref.ref[Tensor]
    shape: torch.Size
    rows: Tensor


def thin(visit: Visit) -> Visit:
    """``visit`` with lists of glances for its arguments and its output: all that ``observe`` needs of the tensors."""
    back = _glances(visit.output)
    shapes = {glance.shape for glance in back}
    return replace(visit, bound={name: _glances(value, shapes) for name, value in visit.bound.items()}, output=back)


def _glances(value: Any, shapes: set[torch.Size] | None = None) -> list[Glance]:
    """Glances at the floating-point tensors in ``value``, with the rows of those that have one of ``shapes``."""
    if isinstance(value, Glance):
        return [value]
    if isinstance(value, Tensor):
        if not value.is_floating_point() or value.ndim == 0 or value.numel() == 0:
            return []
        channels = torch.linspace(0, value.shape[-1] - 1, 4, device=value.device).long()
        stream = shapes is None or value.shape in shapes
        rows = value.detach()[..., channels].reshape(-1, 4).cpu() if stream else torch.empty(0, 4)
        return [Glance(weakref.ref(value), value.shape, rows)]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [g for item in value for g in _glances(item, shapes)] if isinstance(value, list | tuple) else []


def weight(module: nn.Module) -> int:
    """Number of its parameters."""
    return sum(p.numel() for p in module.parameters())


@dataclass(frozen=True, eq=False)
class Step:
    """A visit of a module that gives back a stream in the shape in which it was given.

    Attributes:
        path: name of the module's list.
        main: the main stream as it was given.
        left: what was given back in its shape.
        others: what else was given.
        work: tokens times parameters.
    """

    module: nn.Module
    path: str
    main: Glance
    left: list[Glance]
    others: list[Glance]
    work: float


def step_of(visit: Visit, path: str) -> Step | None:
    """None for a (thin) visit inside another one, and for a module that keeps no stream's shape."""
    given, back = visit.bound, visit.output
    streams = {n: g[0] for n, g in given.items() if len(g) == 1 and any(g[0].shape == b.shape for b in back)}
    if visit.inside is not None or not streams:
        return None
    name = next((n for n in STREAMS if n in streams), None) or max(streams, key=lambda n: streams[n].shape.numel())
    main = streams[name]
    left = [g for g in back if g.shape == main.shape]
    others = [g for n, found in given.items() if n != name for g in found]
    return Step(visit.module, path, main, left, others, len(main.rows) * weight(visit.module))


# -- from one module to the next -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Link:
    """The earlier step that a step continues; ``moved``: its tokens were joined with others, split or reordered."""

    step: int
    moved: bool


def chain_of(steps: Sequence[Step], links: Mapping[int, Link]) -> list[int]:
    """Numbers of the steps in the chain that does most of the work, without what only injects a condition."""
    work: list[float] = []
    for j, step in enumerate(steps):
        work.append(step.work + (work[links[j].step] if j in links else 0))
    chain = [max(range(len(steps)), key=work.__getitem__)] if steps else []
    while chain and chain[0] in links:
        chain.insert(0, links[chain[0]].step)
    while chain and all(steps[i].path != steps[chain[-1]].path for i in chain[:-1]):
        chain.pop()  # nothing shows that the stream goes on from there
    paths = [steps[i].path for i in chain]
    sizes, runs = Counter(paths), Counter(path for path, _ in groupby(paths))
    interrupted = max((size for path, size in sizes.items() if runs[path] > 1), default=0)
    return [i for i in chain if sizes[steps[i].path] > interrupted / 2]  # no few modules between many blocks


def links_of(steps: Sequence[Step]) -> dict[int, Link]:
    """By a step's number, where its main stream comes from; nothing for a step that starts from something else."""
    links: dict[int, Link] = {}
    for j, step in enumerate(steps):
        same = [Link(i, False) for i in range(j) if _is_among(step.main, steps[i].left)]
        ends = set(range(j)) - {link.step for link in links.values()}
        found = same[-1:] or [Link(i, moved) for i in sorted(ends) if (moved := _moved(steps[i], step)) is not None]
        if found:
            links[j] = max(found, key=lambda link: len(steps[link.step].main.rows))
    ways = {(step.path, step.path): False for step in steps}
    ways |= {(steps[link.step].path, steps[j].path): link.moved for j, link in links.items()}
    for j, step in enumerate(steps):
        before = next((i for i in reversed(range(j)) if (steps[i].path, step.path) in ways), None)
        if j not in links and before is not None:
            moved = ways[steps[before].path, step.path]
            if _changed(steps[before], step, moved):
                links[j] = Link(before, moved)
    return links


def _is_among(glance: Glance, others: Sequence[Glance]) -> bool:
    return any(glance.tensor is other.tensor for other in others)


def _moved(before: Step, after: Step) -> bool | None:
    """Whether the tokens that ``before`` gave back reached ``after`` at other places; None: they didn't reach it.

    Where the tokens are more than before, these may be a text's that the video's joined. Then only a modulation that
    both modules were given shows that they belong together.
    """
    joined = len(after.main.rows) > len(before.main.rows)
    if joined and not any(_is_among(g, before.others) for g in after.others):
        return None
    moved = None
    for left in before.left:
        if left.shape[-1] == after.main.shape[-1]:
            dtype = min(left.rows.dtype, after.main.rows.dtype, key=lambda d: torch.finfo(d).bits)
            a, b = _keys(left.rows.to(dtype)), _keys(after.main.rows.to(dtype))
            known = torch.isin(b, a) & (b != 0)  # tokens of zeros are padding
            if known.sum() > min(len(a), len(b)) / 8:
                here = left.shape == after.main.shape and bool((a == b)[known].float().mean() > 0.9)
                moved = not here and moved is not False
    return moved


def _keys(rows: Tensor) -> Tensor:
    """One number for each token [tokens], the same for the same channels."""
    bits = rows.float().contiguous().view(torch.int32).long()
    return (bits * torch.tensor([1, 1_000_003, 1_000_003**2, 1_000_003**3])).sum(-1)


def _changed(before: Step, after: Step, moved: bool) -> bool:
    """Whether ``after`` continues ``before`` though no token is as it was, since something was added to them all."""
    if _is_among(before.main, [after.main]) or any(_is_among(g, after.others) for g in before.left):
        return False  # they run side by side, or one is the other's condition
    if moved:
        return before.main.shape[-1] == after.main.shape[-1] and before.main.shape.numel() == after.main.shape.numel()
    return any(_alike(left, before.main) and _alike(left, after.main) for left in before.left)


def _alike(a: Glance, b: Glance) -> bool:
    if a.shape != b.shape:
        return False
    return bool(torch.cosine_similarity(a.rows.double().flatten(), b.rows.double().flatten(), dim=0) > 0.5)
